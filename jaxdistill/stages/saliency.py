"""Where networks look: how much each pixel moves a network's answer, and whether two networks look at the same ones.

Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models and
Saliency Maps", ICLR Workshop 2014 (arXiv:1312.6034), section 3: the gradient of a class's score by the input, its
absolute value, the largest over the channels. The class is the one that the network itself predicts, and the score its
log-odds, log p - log(1 - p), where the paper has the logit: a logit can move without the answer moving. The map is that
of the log-probability over 1 - p, which does not vanish where a network is sure.

Maps are compared by Spearman's rank correlation, as in Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018
(arXiv:1810.03292). It is 0 for maps that have nothing to do with each other, whose cosine is about 2 / pi.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.build.stage import Stage
from jaxdistill.core import Batch, Variables
from jaxdistill.data import loader
from jaxdistill.data.subsets import Subset
from jaxdistill.networks import Source, dependencies, run
from jaxdistill.train import mesh

SAMPLE = 512
"""Examples, evenly spaced over the split, over which pairs are compared."""

BATCH = 64
"""About how many examples are looked at at once: a gradient keeps what an evaluation forgets."""


@dataclasses.dataclass(frozen=True)
class Saliency:
    """What was found about where networks look.

    Attributes:
        maps: `{network: uint8 [images, height, width]}` of the images asked for, each map's largest value 255.
        pairs: `{(network, reference): mean rank correlation of their maps}`, None where it is not defined.
        examples: how many the means are over.
        left_out: the networks whose answers have no gradient by the images.
    """

    maps: Mapping[str, np.ndarray]
    pairs: Mapping[tuple[str, str], float | None]
    examples: int
    left_out: Sequence[str]


def saliency(networks: Mapping[str, Source], name: str, known: Mapping[str, Variables], batch: Batch) -> jax.Array:
    """Returns a network's map for every example of a prepared batch: float32 `[batch, height, width]`, 0 or more."""
    running = dependencies(networks, [name])

    def log_odds(image):
        logits = run(running, known, batch | {"image": image}, None)[0][name].logits.astype(jnp.float32)
        own = jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1], dtype=bool)
        # The sum's gradient is each example's own: in inference no example sees another.
        return jnp.sum(jnp.sum(logits, -1, where=own) - jax.nn.logsumexp(logits, -1, where=~own))

    return jnp.max(jnp.abs(jax.grad(log_odds)(batch["image"])), -1)


def rank_correlation(one: jax.Array, other: jax.Array) -> jax.Array:
    """Spearman's rho of maps, `[batch, height, width]` twice to `[batch]`; nan where one is the same everywhere."""
    one, other = (jax.vmap(_ranks)(x.reshape(x.shape[0], -1)) for x in (one, other))
    return jnp.sum(one * other, -1) / jnp.sqrt(jnp.sum(one**2, -1) * jnp.sum(other**2, -1))


def _ranks(x: jax.Array) -> jax.Array:
    """Ranks of `[n]` about their mean, over n; equal values share the mean of their ranks."""
    ordered = jnp.sort(x)
    ranks = jnp.searchsorted(ordered, x, side="left") + jnp.searchsorted(ordered, x, side="right") - x.size
    return ranks.astype(jnp.float32) / (2 * x.size)


def blind(stage: Stage, names: Sequence[str]) -> list[str]:
    """Those networks whose answers have no gradient by the images."""

    def looks(name):
        if not all(source.differentiable for source in dependencies(stage.networks, [name]).values()):
            return False
        try:
            variables, batch = stage.shapes.variables, stage.data.batch
            jax.eval_shape(lambda known, batch: saliency(stage.networks, name, known, batch), variables, batch)
        except (TypeError, ValueError, NotImplementedError):  # what JAX raises for what it cannot differentiate
            return False
        return True

    return [name for name in names if not looks(name)]


def find(stage: Stage, known: Mapping[str, Variables], shown: np.ndarray) -> Saliency:
    """Looks through the eyes of the networks that a stage measures or compares.

    Args:
        known: their variables.
        shown: the places in the split of the images whose maps are wanted, int `[images]`.
    """
    names = stage.evaluation.compared
    left_out = blind(stage, names)
    names = [name for name in names if name not in left_out]
    pairs = [pair for pair in stage.evaluation.pairs if set(pair) <= set(names)]
    split = stage.data.dataset.split(stage.settings.evaluate.split)
    sample = np.unique(np.linspace(0, len(split) - 1, min(SAMPLE, len(split))).astype(int))
    look = _look(stage, names, pairs)
    alike = _rows(stage, look, known, sample)[1] if pairs else {}
    maps = _rows(stage, look, known, shown)[0] if len(shown) else {}
    return Saliency(
        {name: maps[name] for name in names if name in maps},
        {pair: _mean(values) for pair, values in alike.items()},
        len(sample),
        left_out,
    )


def _mean(values: np.ndarray) -> float | None:
    defined = values[np.isfinite(values)].astype(np.float64)
    return float(np.mean(defined)) if len(defined) else None


def _look(stage: Stage, names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Callable:
    def look(known, batch):
        batch = stage.data.prepare(batch)
        maps = {name: saliency(stage.networks, name, known, batch) for name in names}
        alike = {pair: rank_correlation(*(maps[name] for name in pair)) for pair in pairs}
        largest = {name: jnp.max(x, (1, 2), keepdims=True) for name, x in maps.items()}
        drawn = {n: jnp.round(255 * x / jnp.where(largest[n] > 0, largest[n], 1)) for n, x in maps.items()}
        return jax.tree.map(lambda x: x.astype(jnp.uint8), drawn), alike, batch["mask"]

    return jax.jit(look, out_shardings=mesh.replicated(stage.mesh))


def _rows(stage: Stage, look: Callable, known: Mapping[str, Variables], places: np.ndarray) -> tuple[Any, Any]:
    """Looks at the examples of those places in the split, in their order: `(maps, rank correlations)`."""
    chosen = Subset(stage.data.dataset.split(stage.settings["evaluate"]["split"]), places.astype(np.int32))
    devices = math.lcm(stage.mesh.shape["data"] * stage.mesh.shape["fsdp"], stage.data.process.count)
    batch = devices * max(1, BATCH // devices)
    parts = []
    for raw in loader.iterate_once(chosen, batch, stage.data.dataset.classes, stage.data.process):
        maps, alike, mask = jax.device_get(look(known, mesh.put(stage.mesh, raw)))
        parts.append(jax.tree.map(lambda x, kept=mask > 0: x[kept], (maps, alike)))
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
