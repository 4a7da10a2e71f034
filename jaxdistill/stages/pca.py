"""A stage of kind "components": fits the principal components of what networks say on the training split.

Two passes over the split, every example once and unaugmented: the mean, then the covariance about it, summed in
float64 on the host; places of a map are samples like any other.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.build.stage import Stage
from jaxdistill.core import State
from jaxdistill.networks import dependencies, run
from jaxdistill.train import mesh
from jaxdistill.train.checkpoint import Checkpoints


def fit(stage: Stage, known: Mapping[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    """Fits every exit of the stage whose head is "components", and saves them as a checkpoint of step 1.

    Args:
        known: the variables of the networks that have weights.
        folder: the stage's own.

    Returns:
        What is told in `done.json`, with the share of the variance that each keeps.
    """
    fitted = stage.fitted
    means = {n: total / count for n, (count, total) in _passes(stage, known, _sums).items()}
    spreads = {n: total / count for n, (count, total) in _passes(stage, known, _squares, means).items()}
    variables, kept = {}, {}
    for name in fitted:
        values, axes = np.linalg.eigh(spreads[name])
        axes = axes[:, ::-1][:, : stage.networks[name].head.components]
        # An axis has no sign of its own: its largest entry is made positive, so that a run can be repeated.
        axes = axes * np.sign(axes[np.argmax(np.abs(axes), 0), np.arange(axes.shape[1])])
        variables[name] = {"components": {"mean": jnp.float32(means[name]), "axes": jnp.float32(axes)}}
        kept[name] = float(values[::-1][: axes.shape[1]].sum() / max(values.sum(), np.finfo(float).tiny))
    state = State(jnp.int32(1), jax.random.key(stage.settings["seed"]), {}, variables, ())
    state = mesh.everywhere(stage.mesh, state)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state, {}, {"stage": stage.name, "networks": sorted(fitted)})
        checkpoints.wait()
    return {"step": 1, "kept": "last", "variance_kept": kept}


def _sums(x, weight, mean):
    return jnp.sum(x * weight, 0)


def _squares(x, weight, mean):
    centred = (x - mean[None]) * weight
    return jnp.matmul(centred.T, x - mean[None], precision="highest")


def _passes(stage: Stage, known: Mapping[str, Any], function: Callable, means: Mapping[str, Any] | None = None):
    """Adds `function` of every fitted tap over the training split: `{name: (places that count, sum)}`."""
    taps = {name: (stage.networks[name].of, stage.networks[name].tap) for name in stage.fitted}
    networks = dependencies(stage.networks, [of for of, _ in taps.values()])
    means = {name: jnp.float32(mean) for name, mean in (means or {}).items()}

    def add(known, batch):
        batch = stage.prepare(batch)
        outputs, _ = run(networks, known, batch, None)
        found = {}
        for name, (of, tap) in taps.items():
            x = core.precise(outputs[of].tap(tap))
            weight = jnp.broadcast_to(batch["mask"].reshape(-1, *[1] * (x.ndim - 1)), (*x.shape[:-1], 1)).reshape(-1, 1)
            found[name] = (jnp.sum(weight), function(x.reshape(-1, x.shape[-1]), weight, means.get(name)))
        return found

    add = jax.jit(add, out_shardings=mesh.replicated(stage.mesh))
    total = None
    for batch in stage.once("train", stage.train):
        found = jax.device_get(add(known, mesh.put(stage.mesh, batch)))
        found = jax.tree.map(lambda x: np.asarray(x, np.float64), found)
        total = found if total is None else jax.tree.map(np.add, total, found)
    return total
