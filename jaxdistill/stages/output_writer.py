"""Writing of output caches: the header from shapes, the stored form of an output, and the missing shards."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxdistill import core
from jaxdistill.build import caches
from jaxdistill.build.stage import Stage
from jaxdistill.config.schema import CacheConfig
from jaxdistill.core import Output, Unembedding
from jaxdistill.data import augment
from jaxdistill.data.cache_records import DTYPES
from jaxdistill.data.output_cache import Cache, Header
from jaxdistill.errors import UserError, check_between, check_names, unknown
from jaxdistill.losses import chunked, topk
from jaxdistill.modules import drawn_classes
from jaxdistill.runtime import files, mirror, preemption
from jaxdistill.stages import state_basis

CHUNK = 1 << 24
"""Logits over a vocabulary that are in memory at once while their top-k is taken: 64 MiB."""

LEVELS = 127
"""The largest number of int8."""

STORED = ("logits", "top_k", "hidden", "svd", "sampled")
"""Stored forms of logits."""

STATES = ("hidden", "svd")
"""Those that are hidden states, whole or by `state_basis`."""

Predict = Callable[[str, np.ndarray, np.ndarray], Mapping[str, np.ndarray]]
"""`(role, index, view) -> {array: [n, ...]}`: the stored outputs for examples of a split in given views."""


def make_header(stage: Stage, output: Output, teacher: Mapping[str, Any]) -> Header:
    """Returns the header of the cache that a stage writes.

    Args:
        stage: the stage.
        output: shapes of the output for a batch.
        teacher: what determines the outputs, in plain words.

    Raises:
        UserError: for settings of `cache` that contradict the data, and outputs that cannot be cached.
    """
    spec, data = stage.settings.cache, stage.settings.data
    mixing = augment.list_mixing(data.augment)
    if mixing:
        raise UserError(
            f"stage {stage.name!r} caches outputs for one image, and {mixing[0]!r} makes one of two, a function of"
            " the batch; leave it out of data.augment, or teach by the network itself"
        )
    if spec.views > 1 and not data.augment:
        raise UserError(
            f"stage {stage.name!r}: cache.views={spec.views} of images without augmentation would all be the same;"
            " set cache.views=1, or data.augment as the student has it"
        )
    roles = spec.splits or [*stage.data.dataset.splits]
    check_names(f"split for stage {stage.name!r}, cache.splits", roles, stage.data.dataset.splits)
    _check_sizes(stage, roles)
    splits = {role: (len(stage.data.base_split(role)), spec.views if role == "train" else 1) for role in roles}
    arrays, classes = _array_shapes(stage, output)
    view = {key: value for role in roles for key, value in caches.describe_examples(stage, role).items()}
    return Header(
        arrays=arrays,
        classes=classes,
        splits=splits,
        shard=spec.examples_per_shard,
        view=view,
        teacher=teacher,
        shared={name: (tuple(x.shape), str(x.dtype)) for name, x in shared_arrays(output, spec).items()},
    )


def _check_sizes(stage: Stage, roles: Sequence[str]) -> None:
    """Raises `UserError` for splits whose images differ in size, as those of training do after a crop."""
    shape = stage.data.batch["image"].shape[1:] if "image" in stage.data.batch else stage.data.dataset.shape
    if tuple(shape) != tuple(stage.data.dataset.shape) and [*roles] != ["train"]:
        raise UserError(
            f"stage {stage.name!r}: cache.splits must be ('train',) if data.augment changes the size of images, here to"
            f" {list(shape)}, got {(*roles,)}. Set it, or leave out 'crop'"
        )


def _array_shapes(stage: Stage, output: Output) -> tuple[dict[str, tuple[tuple[int, ...], str]], int]:
    """Returns the shape and dtype of each array of a record, and the number of classes."""
    spec = stage.settings.cache
    if spec.store not in STORED:
        raise unknown(f"form for stage {stage.name!r}, cache.store", spec.store, STORED)
    dtypes = [*DTYPES, *(["int8"] if spec.store in STATES else [])]
    check_names(f"dtype for stage {stage.name!r}, cache.dtype", [spec.dtype], dtypes)
    if spec.store in STATES and not isinstance(output.logits, Unembedding):
        raise UserError(
            f"stage {stage.name!r}: cache.store must be 'logits' or 'top_k' for network {spec.network!r}, whose logits"
            f" are not those of hidden states, got {spec.store!r}. Take one with dense=False, such as a decoder"
        )
    for key, value in {"rank": spec.rank, "bound": spec.bound}.items():
        if value and spec.store != "svd":
            raise UserError(
                f"stage {stage.name!r}: cache.{key} must be 0 with cache.store={spec.store!r}, got {value}. It is of"
                " 'svd'"
            )
    if spec.store == "svd":
        check_between(f"stage {stage.name!r}: cache.rank", find_rank(output, spec), 1, output.logits.hidden.shape[-1])
    if not core.lists_all_classes(output.logits):
        raise UserError(
            f"stage {stage.name!r}: network {spec.network!r} outputs {type(output.logits).__name__}, and a cache is"
            " made of logits"
        )
    classes = core.num_classes(output.logits)
    if "token" in stage.data.task.axes and spec.store == "logits":
        raise UserError(
            f"stage {stage.name!r}: network {spec.network!r} outputs {classes} logits for each token, too many for a"
            " disk; set cache.store='hidden'; or 'top_k', and teach by the method top_k with tail='bucket'; or"
            " 'sampled', and teach by random_sampling"
        )
    index = jax.ShapeDtypeStruct(core.prediction_shape(output.logits)[:1], np.dtype(np.int32))
    shared = shared_arrays(output, spec)
    shapes = jax.eval_shape(lambda *given: stored_arrays(given[0], spec, *given[1:]), output, index, shared)
    dtypes = {"ids": f"uint{max(classes - 1, 1).bit_length()}", "scale": "float32", "negative_entropy": "float32"}
    return {name: (tuple(x.shape[1:]), dtypes.get(name, spec.dtype)) for name, x in shapes.items()}, classes


def stored_arrays(
    output: Output, spec: CacheConfig, index: jax.Array, shared: Mapping[str, Any] | None = None
) -> dict[str, jax.Array]:
    """Returns the arrays of a record, `[batch, ...]` each, by name.

    Args:
        output: of the network.
        spec: the form.
        index: of the examples, int `[batch]`.
        shared: arrays of all records, which "svd" needs.
    """
    taps = {f"tap/{name}": output.tap(name) for name in spec.taps}
    if spec.store == "logits":
        return {"logits": output.logits} | taps
    if spec.store == "hidden":
        logits: Any = output.logits
        return _hidden_arrays(logits.hidden, spec.dtype) | taps
    if spec.store == "svd":
        logits: Any = output.logits
        return _hidden_arrays(state_basis.encode(logits.hidden, shared or {}), spec.dtype) | taps
    chunk = max(1, CHUNK // core.num_classes(output.logits))
    if spec.store == "sampled":
        shape = core.prediction_shape(output.logits)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(0), index)
        uniform = drawn_classes.draw_uniform(keys, shape[1:])
        drawn = chunked.compare(
            lambda logits, _, u: drawn_classes.draw(logits, u, spec.k), output.logits, None, uniform, chunk=chunk
        )
        return {"ids": drawn.ids, "negative_entropy": drawn.negative_entropy} | taps
    top = chunked.compare(lambda logits, _: topk.from_logits(logits, spec.k), output.logits, None, chunk=chunk)
    return {"values": top.values, "ids": top.ids, "log_rest": top.log_rest} | taps


def _hidden_arrays(hidden: jax.Array, dtype: str) -> dict[str, jax.Array]:
    """Returns hidden states, `[batch, ..., width]`; of int8 with the `scale` of each row, `[batch, ...]`."""
    if dtype != "int8":
        return {"hidden": hidden}
    exact = core.precise(hidden)
    scale = jnp.maximum(jnp.max(jnp.abs(exact), -1), jnp.finfo(jnp.float32).tiny * LEVELS) / LEVELS
    return {"hidden": jnp.round(exact / scale[..., None]).astype(jnp.int8), "scale": scale}


def shared_arrays(output: Output, spec: CacheConfig) -> dict[str, Any]:
    """Returns the arrays that all records share: of hidden states, `kernel` and `bias` of the logits.

    Those of "svd" are shapes, of what is fitted to the states (`state_basis.fit`).
    """
    if spec.store not in STATES:
        return {}
    logits: Any = output.logits
    if spec.store == "hidden":
        return {"kernel": logits.kernel} | ({} if logits.bias is None else {"bias": logits.bias})
    (width, classes), rank = logits.kernel.shape, find_rank(output, spec)
    shapes = {"bias": (classes,), "encoder": (width, rank), "center": (width,)}
    arrays = {name: jax.ShapeDtypeStruct(shape, np.dtype(np.float32)) for name, shape in shapes.items()}
    return {"kernel": jax.ShapeDtypeStruct((rank, classes), logits.kernel.dtype)} | arrays


def find_rank(output: Output, spec: CacheConfig) -> int:
    """Returns the numbers of a state of "svd"."""
    logits: Any = output.logits
    return spec.rank or max(logits.hidden.shape[-1] // 2, 1)


def is_complete(cache: Cache) -> bool:
    """Whether all shards of a cache exist.

    Raises:
        UserError: for a cache of another teacher, such as one that was trained anew since.
    """
    if (cache.folder / "cache.json").exists():
        cache.check()
        return cache.has_shared and not _missing_shards(cache)
    return False


def _missing_shards(cache: Cache) -> list[tuple[str, int]]:
    """Returns the shards to write, as the first process finds them: all processes must compute the same ones."""
    shards = [(role, number) for role in cache.header.splits for number in range(len(cache.header.shards(role)))]
    missing = cache.missing() if jax.process_index() == 0 else []
    mask = np.array([shard in missing for shard in shards])
    if jax.process_count() > 1:
        mask = multihost_utils.broadcast_one_to_all(mask)
    return [shard for shard, is_missing in zip(shards, mask, strict=True) if is_missing]


def begin(cache: Cache) -> None:
    """Checks the existing header of a cache, or writes it.

    Raises:
        UserError: for a cache of another teacher.
    """
    if (cache.folder / "cache.json").exists():
        cache.check()
    if jax.process_index() == 0:
        cache.begin()


def fill(cache: Cache, make_predict: Callable[[], Predict], log: Callable[[str], None]) -> dict[str, Any]:
    """Writes the missing shards of a cache.

    Args:
        cache: the cache, with the arrays that all records share.
        make_predict: returns the function of the outputs; called only if a shard is missing.
        log: prints a line.

    Returns:
        The metadata for `done.json`.
    """
    begin(cache)
    mirror.share(cache.folder)  # the arrays that records share
    # The first process fetches nothing from others: it writes all of a folder that they do not see.
    writers = 1 if mirror.is_private(cache.folder) else jax.process_count()
    total, missing = sum(len(cache.header.shards(role)) for role in cache.header.splits), _missing_shards(cache)
    if len(missing) < total:
        log(f"stage {cache.folder.name}: {total - len(missing)} of {total} shards exist")
    predict = make_predict() if missing else None
    for role, number in missing:
        preemption.check()
        examples, views = cache.header.shards(role)[number], cache.header.splits[role][1]
        index = np.repeat(np.arange(examples.start, examples.stop, dtype=np.int32), views)
        arrays = predict(role, index, np.tile(np.arange(views, dtype=np.int32), len(examples)))
        if number % writers == jax.process_index():
            cache.write(role, number, arrays)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"cache {cache.folder.name}")
    header = cache.header.json()
    sizes = {"fingerprint": header["fingerprint"], "records": cache.header.records, "bytes": cache.header.bytes}
    return sizes | {"splits": header["splits"], "arrays": header["arrays"]}


def open_cache(stage: Stage, output: Output, teacher: Mapping[str, Any], workdir: pathlib.Path) -> Cache:
    """Returns the cache that a stage writes, with the teacher in its header."""
    return Cache(workdir / stage.name, make_header(stage, output, teacher))


def describe(header: Header) -> str:
    """Returns the records and bytes of a cache, for `--plan`."""
    splits = " + ".join(f"{role} {n:,} x {views}" for role, (n, views) in header.splits.items())
    arrays = ", ".join(f"{name} {list(shape)} {dtype}" for name, (shape, dtype) in header.arrays.items())
    size = header.record.itemsize
    total = files.format_bytes(header.bytes)
    return f"  cache: {splits} = {header.records:,} records of {size:,} B ({arrays}): {total}"
