"""Stages of kind "pca": fit principal components of networks' taps on the training split.

Two passes over the split, every example once and unaugmented: the mean, then the covariance about it, summed in
float64 on the host; positions of a map are samples as examples are.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.core import Batch, State, Variables
from jaxdistill.errors import UserError
from jaxdistill.networks import Source, dependencies, run
from jaxdistill.runtime import preemption
from jaxdistill.stages import start_weights
from jaxdistill.train import mesh
from jaxdistill.train.checkpoint import Checkpoints


class PCA(Kind):
    """Fits the heads of principal components of a stage, in closed form."""

    images_only = True

    def saved(self, stage: Stage) -> list[str]:
        return fitted_heads(stage.networks)

    def initialised(self, stage: Stage) -> list[str]:
        return fitted_heads(stage.networks)

    def check(self, stage: Stage) -> None:
        if not fitted_heads(stage.networks):
            raise UserError(
                f"stage {stage.name!r} fits nothing; it needs a network dict(source='head', head='pca', ...)"
            )
        super().check(stage)

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        variables, reports = start_weights.read_for_inference(stage.runs, workdir, log)
        metadata = fit(stage, variables, workdir / stage.name) | reports
        fractions = ", ".join(f"{name} {fraction:.1%}" for name, fraction in metadata["variance_kept"].items())
        log(f"stage {stage.name}: fraction of the variance that is kept: {fractions}")
        return metadata


def fitted_heads(networks: Mapping[str, Source]) -> list[str]:
    """Returns the networks whose variables are fitted in closed form."""
    return [name for name, source in networks.items() if source.fitted]


def fit(stage: Stage, variables: Mapping[str, Variables], folder: pathlib.Path) -> dict[str, Any]:
    """Fits every head of principal components, and saves them as a checkpoint of step 1.

    Args:
        stage: the stage.
        variables: those of the networks with weights.
        folder: the stage's own.

    Returns:
        The metadata for `done.json`, with the fraction of the variance that each head keeps.
    """
    means = {n: total / count for n, (count, total) in _sum_over_split(stage, variables, _sums).items()}
    products = _sum_over_split(stage, variables, _products, means)
    components, fractions = {}, {}
    for name, (count, total) in products.items():
        values, axes = np.linalg.eigh(total / count)
        axes = axes[:, ::-1][:, : stage.networks[name].head.components]
        # The sign of an axis is arbitrary: its largest entry is made positive, so that a run can be repeated.
        axes = axes * np.sign(axes[np.argmax(np.abs(axes), 0), np.arange(axes.shape[1])])
        components[name] = {"components": {"mean": jnp.float32(means[name]), "axes": jnp.float32(axes)}}
        fractions[name] = float(values[::-1][: axes.shape[1]].sum() / max(values.sum(), np.finfo(float).tiny))
    state = State(jnp.int32(1), jax.random.key(stage.settings.seed), params={}, variables=components, opt_state=())
    state = mesh.everywhere(stage.mesh, state)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state, {}, {"stage": stage.name, "networks": sorted(components)})
        checkpoints.wait()
    return {"step": 1, "kept": "last", "variance_kept": fractions}


def _sums(x: jax.Array, weight: jax.Array, mean: jax.Array | None) -> jax.Array:
    """`[rows, features]`, `[rows, 1]` -> `[features]`."""
    return jnp.sum(x * weight, 0)


def _products(x: jax.Array, weight: jax.Array, mean: jax.Array) -> jax.Array:
    """`[rows, features]`, `[rows, 1]`, `[features]` -> `[features, features]`."""
    centred = (x - mean[None]) * weight
    return jnp.matmul(centred.T, x - mean[None], precision="highest")


def _sum_over_split(
    stage: Stage,
    variables: Mapping[str, Variables],
    function: Callable[..., jax.Array],
    means: Mapping[str, np.ndarray] | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Adds `function` of every fitted tap over the training split: `{name: (number of rows that count, sum)}`."""
    taps = {name: (stage.networks[name].of, stage.networks[name].tap) for name in fitted_heads(stage.networks)}
    networks = dependencies(stage.networks, [of for of, _ in taps.values()])
    float_means = {name: jnp.float32(mean) for name, mean in (means or {}).items()}

    def add(variables: Mapping[str, Variables], batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        batch = stage.data.prepare(batch)
        outputs, _ = run(networks, variables, batch, None)
        sums = {}
        for name, (of, tap) in taps.items():
            x = core.precise(outputs[of].tap(tap))
            weight = jnp.broadcast_to(batch["mask"].reshape(-1, *[1] * (x.ndim - 1)), (*x.shape[:-1], 1)).reshape(-1, 1)
            sums[name] = (jnp.sum(weight), function(x.reshape(-1, x.shape[-1]), weight, float_means.get(name)))
        return sums

    add = jax.jit(mesh.traced_on(stage.mesh, add), out_shardings=mesh.replicated(stage.mesh))
    total = None
    for batch in stage.data.batches("train", stage.data.train):
        preemption.check()
        sums = jax.device_get(add(variables, mesh.put(stage.mesh, batch)))
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
        total = sums if total is None else jax.tree.map(np.add, total, sums)
    return total
