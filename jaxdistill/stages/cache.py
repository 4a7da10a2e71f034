"""Stages of kind "cache": store a network's outputs for later stages.

A cache covers the whole training split, whatever part of it or of its labels a stage sees, in the views 0 to
`views - 1` that the stage's `data.augment` makes: augmentation is a function of the seed, the example and the number of
the view, so that the outputs belong to exactly the images that a student of the same augmentation and seed sees. Other
splits are cached as they are evaluated, without augmentation. `data/output_cache.py` describes the format.

Outputs are computed by all devices together, as in an evaluation, and written by all processes, shards in turn. The
batches of a shard depend on it alone, so a cache that is resumed is the same to the byte. Another batch size, or
another number of devices or processes, gives the same outputs to float rounding: the same bytes if XLA adds in the
same order, which it guarantees nowhere.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import networks
from jaxdistill.build import weights
from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.config.parse import free_keys, option, plain
from jaxdistill.config.schema import CacheConfig, StageSettings
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.data import loader, output_cache
from jaxdistill.data.output_cache import Header
from jaxdistill.errors import UserError, check_names
from jaxdistill.runtime import files, preemption, xla_options
from jaxdistill.stages import output_writer, start_weights, state_basis
from jaxdistill.train import mesh
from jaxdistill.train.checkpoint import flatten

SAMPLE = 1 << 15
"""The most predictions whose states "svd" is fitted to."""


@dataclasses.dataclass(frozen=True)
class CacheSettings(StageSettings):
    """Settings of a stage that caches outputs."""

    cache: CacheConfig = option(CacheConfig, "the cache")


class Cache(Kind):
    """Runs one network over the splits of a dataset and stores its outputs."""

    settings = CacheSettings
    stores_outputs = True

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        return [(role, True, [*stage.networks]) for role in self.cache_header(stage).splits]

    def check(self, stage: Stage) -> None:
        super().check(stage)
        name = stage.settings.cache.network
        if name not in stage.networks:
            return  # refused by the header, which names the alternatives
        readers = [n for n, source in networks.dependencies(stage.networks, [name]).items() if source.reads_labels]
        if readers:
            raise UserError(
                f"stage {stage.name!r} caches the output of {readers[0]!r}, which depends on labels that a student may"
                " not see; cache its members, and weigh them where they teach"
            )

    def cache_header(self, stage: Stage) -> Header:
        return output_writer.make_header(stage, _output_shapes(stage), {})

    def describe(self, stage: Stage) -> list[str]:
        return [output_writer.describe(self.cache_header(stage))]

    def is_done(self, stage: Stage, workdir: pathlib.Path) -> bool:
        return super().is_done(stage, workdir) and output_writer.is_complete(open_cache(stage, workdir))

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        precision: dict[str, Any] = {}
        cache = open_cache(stage, workdir)

        @functools.cache
        def read_variables() -> Mapping[str, Variables]:
            variables, reports = start_weights.read_for_inference(stage.runs, workdir, log)
            precision.update(reports)
            return variables

        output_writer.begin(cache)
        if not cache.has_shared:
            write_shared(stage, cache, read_variables(), log)
        return output_writer.fill(cache, lambda: predict_stored(stage, cache, read_variables()), log) | precision


def predict_stored(
    stage: Stage, cache: output_cache.Cache, variables: Mapping[str, Variables]
) -> output_writer.Predict:
    """Returns the function of the arrays of records, which may need those that all share."""
    spec, shared = stage.settings.cache, cache.read_shared()
    return network_outputs(
        stage, variables, lambda output, batch: output_writer.stored_arrays(output, spec, batch["index"], shared)
    )


def write_shared(
    stage: Stage, cache: output_cache.Cache, variables: Mapping[str, Variables], log: Callable[[str], None]
) -> None:
    """Writes the arrays that all records of a stage's cache share; the first process does.

    Args:
        stage: the stage.
        cache: its cache.
        variables: those of the networks that have any.
        log: prints a line.

    Raises:
        UserError: for states of "svd" whose rank does not hold the bound, with the smallest that does.
    """
    spec = stage.settings.cache
    members = networks.dependencies(stage.networks, [spec.network])
    whole = dataclasses.replace(spec, store="hidden")

    def run(variables: Mapping[str, Variables], batch: Batch) -> dict[str, jax.Array]:
        outputs, _ = networks.run(members, variables, batch, None)
        return output_writer.shared_arrays(outputs[spec.network], whole)

    rows = len(stage.data.process.rows(stage.data.batch_size))
    empty = {name: np.zeros((rows, *x.shape[1:]), x.dtype) for name, x in stage.data.batch.items()}
    compiled = xla_options.jit(mesh.traced_on(stage.mesh, run), out_shardings=mesh.replicated(stage.mesh))
    arrays = jax.device_get(compiled(variables, mesh.put(stage.mesh, empty)))
    if spec.store == "svd":
        arrays = _fit_states(stage, cache, variables, arrays=arrays, log=log)
    if jax.process_index() == 0:
        cache.write_shared(arrays)


def open_cache(stage: Stage, workdir: pathlib.Path) -> output_cache.Cache:
    """Returns the cache that a stage writes, with the digests of its teacher."""
    return output_writer.open_cache(stage, _output_shapes(stage), describe_teacher(stage, workdir), workdir)


def _output_shapes(stage: Stage) -> Output:
    name = stage.settings.cache.network
    check_names(f"network for stage {stage.name!r}, cache.network", [name], stage.networks)
    return stage.shapes.outputs[name]


def describe_teacher(stage: Stage, workdir: pathlib.Path) -> dict[str, Any]:
    """Returns what determines the outputs of the stage's network: its settings and the digest of its weights.

    Raises:
        UserError: if its weights do not exist (yet).
    """
    name = stage.settings.cache.network
    description: dict[str, Any] = {"cached": name}
    for member, source in networks.dependencies(stage.networks, [name]).items():
        config = stage.settings.networks[member]
        free = free_keys(config)
        spec = {key: value for key, value in plain(config).items() if key not in free}
        if ref := stage.references[member].get("weights"):
            spec["weights"] = weights.find(ref, member, workdir).fingerprint()
        if member in stage.data.caches:
            spec["cache"] = Header.read(stage.data.caches[member].folder).json()["fingerprint"]
        state = networks.brought_variables(source)
        if state:
            spec["state"] = files.digest(*(np.asarray(x).tobytes() for x in jax.tree.leaves(flatten(state))))
        description[f"network {member}"] = spec
    return description


def _fit_states(
    stage: Stage,
    cache: output_cache.Cache,
    variables: Mapping[str, Variables],
    *,
    arrays: Mapping[str, np.ndarray],
    log: Callable[[str], None],
) -> dict[str, np.ndarray]:
    """Returns the shared arrays of "svd", fitted to states of examples that are spread over the first split.

    Args:
        stage: the stage.
        cache: its cache.
        variables: those of the networks that have any.
        arrays: kernel and bias of the logits.
        log: prints a line.
    """
    spec, role = stage.settings.cache, next(iter(cache.header.splits))
    examples, tokens = cache.header.splits[role][0], next(iter(cache.header.arrays.values()))[0][:-1]
    count = max(1, min(examples, SAMPLE // max(1, math.prod(tokens))))
    index = np.linspace(0, examples - 1, count).astype(np.int32)

    def select(output: Output, batch: Batch) -> dict[str, jax.Array]:
        logits: Any = output.logits
        valid = batch["valid"].reshape(batch["valid"].shape + (1,) * (logits.hidden.ndim - 1 - batch["valid"].ndim))
        return {"hidden": logits.hidden, "valid": jnp.broadcast_to(valid, logits.hidden.shape[:-1])}

    sample = network_outputs(stage, variables, select)(role, index, np.zeros_like(index))
    # Examples of prompts alone have no valid position: all of theirs count then.
    hidden = sample["hidden"][(sample["valid"] > 0) | ~np.any(sample["valid"] > 0)]
    kernel, bias, rank = arrays["kernel"], arrays.get("bias"), cache.header.shared["kernel"][0][0]
    fitted = state_basis.StateBasis.fit(hidden, kernel, bias)
    kl = fitted.mean_kl(rank)
    log(f"stage {stage.name}: {rank} of {kernel.shape[0]} numbers of a state, mean KL {kl:.2g} of a sample")
    if spec.bound and not kl <= spec.bound:
        raise UserError(
            f"stage {stage.name!r}: cache.rank must be at least {fitted.smallest_rank(spec.bound)} for a mean KL of"
            f" cache.bound={spec.bound}, got {rank}, whose is {kl:.3g}. Set it, or a larger bound"
        )
    return fitted.arrays(rank)


def network_outputs(
    stage: Stage, variables: Mapping[str, Variables], select: Callable[[Output, Batch], dict[str, jax.Array]]
) -> output_writer.Predict:
    """Returns the function of arrays of the outputs of the stage's network, in inference mode.

    Args:
        stage: the stage.
        variables: those of the networks that have any.
        select: returns arrays `[batch, ...]` of an output and its batch.
    """
    spec, size = stage.settings.cache, stage.data.evaluation_batch_size
    members = networks.dependencies(stage.networks, [spec.network])

    def compile_for(change: Callable[[Batch], Batch]) -> Callable:
        def run(variables: Mapping[str, Variables], batch: Batch) -> dict[str, jax.Array]:
            batch = change(batch)
            outputs, _ = networks.run(members, variables, batch, None)
            return select(outputs[spec.network], batch)

        return xla_options.jit(mesh.traced_on(stage.mesh, run), out_shardings=mesh.replicated(stage.mesh))

    augmented, plain = compile_for(stage.data.augment), compile_for(stage.data.prepare)

    def predict(role: str, index: np.ndarray, view: np.ndarray) -> dict[str, np.ndarray]:
        parts, pending = [], None
        split, outputs = stage.data.base_split(role), stage.data.cached_outputs(role)
        for start in range(0, len(index), size):
            preemption.check()
            rows = np.arange(start, start + size)
            rows = np.where(rows < len(index), rows, start)[stage.data.process.rows(size)]
            batch = loader.take_rows(split, stage.data.dataset.classes, index[rows], view[rows], outputs=outputs)
            batch |= {"mask": np.ones(len(rows), np.float32)}
            # One batch is computed while the one before is fetched; many at once can starve a CPU's collectives.
            dispatched = (augmented if role == "train" else plain)(variables, mesh.put(stage.mesh, batch))
            parts += [jax.device_get(pending)] if pending is not None else []
            pending = dispatched
        parts.append(jax.device_get(pending))
        return {name: np.concatenate([part[name] for part in parts])[: len(index)] for name in parts[0]}

    return predict
