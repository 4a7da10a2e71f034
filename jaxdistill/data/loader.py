"""Batches of a split, by loaders that hold it on the device or stream it through Grain.

Batch number s of a run is a pure function of (seed, s) (`sampling`), so every example is seen equally often for any
batch size, and a run resumes at its exact position from its step alone. Both loaders give the same batches for the same
seed.

A raw batch is `{"image" or "tokens", "label", "index", "view", "mask"}` and further fields of the examples: `index` is
the example's position in the base of its split, `view` the number of times it was sampled before (the epoch; counted
from 0 again after `cycle` views unless that is 0), `mask` 0 for padding. With cached networks it also has their outputs
for these examples in these views, `cached/...`.

With `buckets`, lengths of texts, a streamed batch is padded to the smallest that holds its longest text. All processes
choose the same one, from the texts of the whole batch.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdistill.core import CACHED
from jaxdistill.data.dataset import CHUNK, Split, check_finite
from jaxdistill.data.dense import check_dense
from jaxdistill.data.output_cache import NO_OUTPUTS, CachedOutputs
from jaxdistill.data.sampling import sample_indices
from jaxdistill.data.tokenized_texts import TOKEN_FIELDS
from jaxdistill.errors import UserError

NEVER = np.iinfo(np.int32).max
"""A number of views that is never reached."""

WIDTH = "width"
"""The field of a streamed batch that `crop` removes: the bucket of its longest text."""


@dataclasses.dataclass(frozen=True)
class ProcessShard:
    """The rows of every batch that this process reads: those that its devices hold.

    Attributes:
        blocks: numbers of its blocks of rows, ascending, which need not be neighbours; several processes have the same
            ones if an axis of the mesh that does not split the batch goes over them.
        count: the number of blocks of a batch, equal in size.
    """

    blocks: tuple[int, ...] = (0,)
    count: int = 1

    def rows(self, batch: int) -> np.ndarray:
        """Returns the rows of a batch, int64 `[rows]`, ascending."""
        return np.arange(batch).reshape(self.count, -1)[list(self.blocks)].reshape(-1)


def _take_checked(split: Split, indices: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    batch = split.take(indices)
    check_classes(batch, classes, "a batch")
    if "image" in batch and batch["image"].dtype != np.uint8:
        check_finite(batch["image"], indices, "the image data")
    return batch


def check_classes(batch: Mapping[str, np.ndarray], classes: int, path: str) -> None:
    """Raises `UserError` for classes of examples, of pixels or of boxes that are out of range."""
    if "label" in batch:
        check_labels(batch["label"], classes, path)
    check_dense(batch, classes, path)


def check_labels(label: np.ndarray, classes: int, path: str) -> None:
    """Raises `UserError` for a label outside `[0, classes)`; -1 marks a hidden one."""
    if len(label) and (label.min() < -1 or label.max() >= classes):
        raise UserError(
            f"{path} has labels from {label.min()} to {label.max()}; with {classes} classes they are 0 to {classes - 1}"
        )


def choose_width(split: Split, index: np.ndarray, buckets: Sequence[int]) -> int:
    """Returns the smallest of ascending buckets that holds the texts of a base split at `index`."""
    counts = split.token_counts
    assert counts is not None
    longest = int(counts[index].max())
    return next(bucket for bucket in buckets if bucket >= longest)


def crop(parts: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Crops the texts of batches that one call takes together to the largest of their buckets, if they have any."""
    if WIDTH not in parts[0]:
        return [dict(part) for part in parts]
    width = max(int(np.max(part[WIDTH])) for part in parts)
    return [
        {name: array[..., :width] if name in TOKEN_FIELDS else array for name, array in part.items() if name != WIDTH}
        for part in parts
    ]


@dataclasses.dataclass(frozen=True)
class Resident:
    """A split decoded once and held on the device; the inputs of a step are indices alone.

    Attributes:
        resident: the arrays for the device by index of the base split, `{"image": uint8 [examples, ...], "label": int32
            [examples]}` or tokens; and outputs of cached networks, `{"cached/...": [examples, views, ...]}`.
        cycle: the number of views after which those of an example repeat; 0 for never.
        pool: number of batches whose texts are sorted by length together; 0 for none.
    """

    split: Split
    resident: Mapping[str, np.ndarray]
    seed: int
    batch: int
    shard: ProcessShard = ProcessShard()
    cycle: int = 0
    pool: int = 0

    leading = 0
    crop = staticmethod(crop)

    @classmethod
    def of(
        cls,
        split: Split,
        *,
        seed: int,
        batch: int,
        classes: int,
        shard: ProcessShard = ProcessShard(),
        outputs: CachedOutputs = NO_OUTPUTS,
        cycle: int = 0,
        pool: int = 0,
    ) -> "Resident":
        """Decodes the base of a split, and loads the cached outputs of its examples."""
        base = split.base
        resident = _take_checked(base, np.arange(len(base)), classes) | outputs.load_all()
        return cls(split, resident, seed=seed, batch=batch, shard=shard, cycle=cycle, pool=pool)

    def step_inputs(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the inputs of steps `start` to `stop`."""
        for step in range(start, stop):
            index, view = sample_indices(self.split, self.seed, self.batch, step, pool=self.pool)
            rows = self.shard.rows(self.batch)
            yield {"index": index[rows], "view": view[rows] % (self.cycle or NEVER)}

    @staticmethod
    def make_batch(resident: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the raw batch on the device."""
        index, view = inputs["index"], inputs["view"]
        taken = {
            name: array[index, view % array.shape[1]] if name.startswith(CACHED) else array[index]
            for name, array in resident.items()
        }
        return taken | dict(inputs) | {"mask": jnp.ones(inputs["index"].shape, jnp.float32)}


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A split read as it is used, by Grain's threads, `prefetch` batches in advance.

    Decoders work outside of Python's lock: processes instead of threads were slower (benchmarks/data.py).
    """

    split: Split
    seed: int
    batch: int
    classes: int
    shard: ProcessShard = ProcessShard()
    outputs: CachedOutputs = NO_OUTPUTS
    cycle: int = 0
    num_threads: int = 4
    prefetch: int = 4
    buckets: tuple[int, ...] = ()
    pool: int = 0

    resident = {}
    leading = 0
    crop = staticmethod(crop)

    def __len__(self) -> int:
        return np.iinfo(np.int32).max

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        index, view = sample_indices(self.split, self.seed, self.batch, int(step), pool=self.pool)
        rows = self.shard.rows(self.batch)
        view = view[rows] % (self.cycle or NEVER)
        taken = take_rows(self.split.base, self.classes, index[rows], view, outputs=self.outputs)
        width = {WIDTH: np.int32(choose_width(self.split.base, index, self.buckets))} if self.buckets else {}
        return taken | width

    def step_inputs(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the inputs of steps `start` to `stop`."""
        if start == stop:
            return
        import grain

        prefetch = max(self.prefetch, self.num_threads)  # a thread reads a batch
        options = grain.ReadOptions(num_threads=self.num_threads, prefetch_buffer_size=prefetch)
        yield from grain.MapDataset.source(self)[start:stop].to_iter_dataset(options)

    @staticmethod
    def make_batch(resident: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the raw batch on the device."""
        return dict(inputs) | {"mask": jnp.ones(inputs["index"].shape, jnp.float32)}


Loader = Resident | Streamed


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Several loaders of one base split: batches `[loaders, batch, ...]`; resident arrays are shared."""

    loaders: tuple[Loader, ...]
    resident: Mapping[str, np.ndarray]

    leading = 1
    crop = staticmethod(crop)

    @classmethod
    def of(cls, loaders: Iterable[Loader]) -> "Stacked":
        """Joins loaders; an example's label is held if some loader may see it.

        Raises:
            UserError: if a loader would see labels that are hidden from it.
        """
        light, labels, resident = [], [], {}
        for loader in loaders:  # one after the other: each holds the whole split until its labels are taken
            resident, labels = resident or dict(loader.resident), [*labels, loader.resident.get("label")]
            light.append(dataclasses.replace(loader, resident={}) if loader.resident else loader)
        if "label" not in resident:
            return cls(tuple(light), resident)
        label = np.maximum.reduce(labels)
        for loader, seen in zip(light, labels, strict=True):
            index = loader.split.index(np.arange(len(loader.split)))
            if not np.array_equal(seen[index], label[index]):
                raise UserError(
                    "lanes differ in whether they see the labels of examples they share; set data.resident=no"
                )
        return cls(tuple(light), resident | {"label": label})

    def step_inputs(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the inputs of steps `start` to `stop`."""
        for inputs in zip(*(loader.step_inputs(start, stop) for loader in self.loaders), strict=True):
            yield {name: np.stack([part[name] for part in inputs]) for name in inputs[0]}

    def make_batch(self, resident: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the raw batch on the device."""
        return self.loaders[0].make_batch(resident, inputs)


def take_rows(
    base: Split, classes: int, index: np.ndarray, view: np.ndarray, *, outputs: CachedOutputs = NO_OUTPUTS
) -> dict[str, np.ndarray]:
    """Returns the examples of a base split at `index`, in these views, int32 `[n]` each, with cached outputs."""
    # An example in several views is decoded once.
    positions, inverse = np.unique(index, return_inverse=True)
    taken = {name: array[inverse] for name, array in _take_checked(base, positions, classes).items()}
    return taken | {"index": index, "view": view} | outputs.take(index, view)


def iterate_once(
    split: Split,
    batch: int,
    classes: int,
    shard: ProcessShard = ProcessShard(),
    *,
    outputs: CachedOutputs = NO_OUTPUTS,
    buckets: Sequence[int] = (),
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the raw batches of a whole split in order, the last one padded with masked copies of its first row."""
    for start in range(0, len(split), batch):
        position = np.arange(start, start + batch)
        mask = position < len(split)
        index = split.index(np.where(mask, position, start))
        rows = shard.rows(batch)
        taken = take_rows(split.base, classes, index[rows], np.zeros(len(rows), np.int32), outputs=outputs)
        width = {WIDTH: np.int32(choose_width(split.base, index, buckets))} if buckets else {}
        yield crop([taken | {"mask": mask[rows].astype(np.float32)} | width])[0]


def statistics(split: Split, examples: int = 0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measures the mean and standard deviation of every channel, in units of [0, 1].

    Args:
        split: the training split.
        examples: number of examples to measure, evenly spaced; 0 for all.

    A constant channel gets the standard deviation 1.
    """
    indices = np.arange(len(split))
    if examples and examples < len(split):
        indices = np.linspace(0, len(split) - 1, examples).astype(int)
    total, squares, pixels = 0.0, 0.0, 0
    for start in range(0, len(indices), 4 * CHUNK):
        chunk = indices[start : start + 4 * CHUNK]
        image = split.take(chunk)["image"]
        if image.dtype != np.uint8:
            check_finite(image, chunk, "the training split")
        values = image.reshape(-1, image.shape[-1]).astype(np.float64) / (255 if image.dtype == np.uint8 else 1)
        total, squares, pixels = total + values.sum(0), squares + (values**2).sum(0), pixels + len(values)
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    return tuple(map(float, mean)), tuple(float(s) if s > 1e-6 else 1.0 for s in std)
