"""Saliency maps: the effect of each pixel on a network's prediction, and whether two networks have similar maps.

Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models and
Saliency Maps", ICLR Workshop 2014 (arXiv:1312.6034), section 3: the gradient of a class's score by the input, its
absolute value, the largest over the channels. The class is the one that the network itself predicts, and the score its
log-odds, log p - log(1 - p), where the paper has the logit: a logit can move without the prediction moving. The map is
that of the log-probability over 1 - p, which does not vanish for a confident network.

Maps are compared by Spearman's rank correlation, as in Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018
(arXiv:1810.03292). It is 0 for unrelated maps, whose cosine is about 2 / pi.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.build.stage import Stage
from jaxdistill.core import Batch, Variables
from jaxdistill.networks import Source, dependencies, run
from jaxdistill.stages.examples import choose_evenly, compile_rows, over_examples

SAMPLE = 512
"""Examples, evenly spaced over the split, over which pairs are compared."""


@dataclasses.dataclass(frozen=True)
class Saliency:
    """Saliency maps of images, and their similarity.

    Attributes:
        maps: `{network: uint8 [images, height, width]}`, each map's largest value 255.
        pairs: `{(network, reference): mean rank correlation of their maps}`, `None` if it is not defined.
        examples: the number of examples that the means are over.
        left_out: the networks whose predictions have no gradient by the images.
    """

    maps: Mapping[str, np.ndarray]
    pairs: Mapping[tuple[str, str], float | None]
    examples: int
    left_out: Sequence[str]


def saliency(networks: Mapping[str, Source], name: str, variables: Mapping[str, Variables], batch: Batch) -> jax.Array:
    """Returns a network's map for every example of a prepared batch: float32 `[batch, height, width]`, 0 or more."""
    needed = dependencies(networks, [name])

    def log_odds(image: jax.Array) -> jax.Array:
        logits = run(needed, variables, batch | {"image": image}, None)[0][name].logits.astype(jnp.float32)
        predicted = jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1], dtype=bool)
        # The sum's gradient is each example's own: in inference no example depends on another.
        return jnp.sum(jnp.sum(logits, -1, where=predicted) - jax.nn.logsumexp(logits, -1, where=~predicted))

    return jnp.max(jnp.abs(jax.grad(log_odds)(batch["image"])), -1)


def rank_correlation(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns Spearman's rho of maps, `[batch, height, width]` twice to `[batch]`; nan if one is constant."""
    left, right = (jax.vmap(_ranks)(x.reshape(x.shape[0], -1)) for x in (left, right))
    return jnp.sum(left * right, -1) / jnp.sqrt(jnp.sum(left**2, -1) * jnp.sum(right**2, -1))


def _ranks(x: jax.Array) -> jax.Array:
    """Returns the ranks of `[n]` about their mean, over n; equal values have the mean of their ranks."""
    ordered = jnp.sort(x)
    ranks = jnp.searchsorted(ordered, x, side="left") + jnp.searchsorted(ordered, x, side="right") - x.size
    return ranks.astype(jnp.float32) / (2 * x.size)


def without_gradient(stage: Stage, names: Sequence[str]) -> list[str]:
    """Returns the networks whose predictions have no gradient by the images."""
    variables, batch = stage.shapes.variables, stage.data.batch

    def is_differentiable(name: str) -> bool:
        if not all(source.differentiable for source in dependencies(stage.networks, [name]).values()):
            return False
        try:
            jax.eval_shape(lambda variables, batch: saliency(stage.networks, name, variables, batch), variables, batch)
        except (TypeError, ValueError, NotImplementedError):  # of JAX, for an operation without derivative
            return False
        return True

    return [name for name in names if not is_differentiable(name)]


def compute_saliency(stage: Stage, variables: Mapping[str, Variables], shown: np.ndarray) -> Saliency:
    """Computes maps of the networks that a stage measures or compares.

    Args:
        stage: the stage.
        variables: those of its networks.
        shown: indices in the split of the images whose maps are returned, int `[images]`.
    """
    left_out = without_gradient(stage, stage.evaluation.compared)
    names = [name for name in stage.evaluation.compared if name not in left_out]
    pairs = [pair for pair in stage.evaluation.pairs if set(pair) <= set(names)]
    split = stage.data.dataset.split(stage.settings.evaluate.split)
    sample = choose_evenly(len(split), SAMPLE)
    compute = _compile_maps(stage, names, pairs)
    correlations = over_examples(stage, compute, variables, sample)[1] if pairs else {}
    maps = over_examples(stage, compute, variables, shown)[0] if len(shown) else {}
    return Saliency(
        maps={name: maps[name] for name in names if name in maps},
        pairs={pair: _mean(values) for pair, values in correlations.items()},
        examples=len(sample),
        left_out=left_out,
    )


def _mean(values: np.ndarray) -> float | None:
    defined = values[np.isfinite(values)].astype(np.float64)
    return float(np.mean(defined)) if len(defined) else None


def _compile_maps(stage: Stage, names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Callable[..., Any]:
    """Returns `(variables, raw batch) -> ((maps, rank correlations), mask)`."""

    def compute(variables: Mapping[str, Variables], batch: Batch) -> tuple[Any, Any]:
        maps = {name: saliency(stage.networks, name, variables, batch) for name in names}
        correlations = {pair: rank_correlation(*(maps[name] for name in pair)) for pair in pairs}
        largest = {name: jnp.max(x, (1, 2), keepdims=True) for name, x in maps.items()}
        drawn = {n: jnp.round(255 * x / jnp.where(largest[n] > 0, largest[n], 1)) for n, x in maps.items()}
        return jax.tree.map(lambda x: x.astype(jnp.uint8), drawn), correlations

    return compile_rows(stage, compute)
