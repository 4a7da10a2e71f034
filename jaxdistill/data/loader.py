"""In which order examples go, and how they reach the device: resident there, or streamed through Grain.

Batch number s of a run is a pure function of (seed, s): the examples are dealt from one endless sequence, a
fresh permutation of the split per epoch, so every example is seen equally often whatever the batch size, and
a run resumes at the exact position by knowing its step. Both loaders give the same batches for the same seed.

A raw batch is `{"image", "label", "index", "view", "mask"}`: `index` is the example's place in its split,
`view` how often it was dealt before (the epoch), `mask` 0 for padding.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdistill.data.sources import CHUNK, Split, check_finite
from jaxdistill.errors import UserError


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, examples: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(examples).astype(np.int32)


def deal(seed: int, examples: int, batch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices and views, int32 `[batch]` each, of batch number `step`."""
    index, view = np.empty(batch, np.int32), np.empty(batch, np.int32)
    done = 0
    while done < batch:
        epoch, place = divmod(step * batch + done, examples)
        part = _permutation(seed, examples, epoch)[place : place + batch - done]
        index[done : done + len(part)], view[done : done + len(part)] = part, epoch
        done += len(part)
    return index, view


@dataclasses.dataclass(frozen=True)
class Part:
    """Which rows of every batch this process reads: part `number` of `of`, contiguous."""

    number: int = 0
    of: int = 1

    def rows(self, batch: int) -> slice:
        size = batch // self.of
        return slice(self.number * size, (self.number + 1) * size)


def _checked_take(split: Split, indices: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    batch = split.take(indices)
    check_labels(batch["label"], classes, "a batch")
    if batch["image"].dtype != np.uint8:
        check_finite(batch["image"], indices, "the image data")
    return batch


def check_labels(label: np.ndarray, classes: int, where: str) -> None:
    """Raises `UserError` for a label outside `[0, classes)`; -1 marks a hidden one."""
    if len(label) and (label.min() < -1 or label.max() >= classes):
        raise UserError(
            f"{where} has labels from {label.min()} to {label.max()};"
            f" with {classes} classes they are 0 to {classes - 1}"
        )


@dataclasses.dataclass(frozen=True)
class Resident:
    """A split decoded once and held on the device; a step is fed with indices alone.

    Attributes:
        held: what to put on the device, `{"image": uint8 [examples, ...], "label": int32 [examples]}`.
    """

    held: Mapping[str, np.ndarray]
    seed: int
    batch: int
    part: Part = Part()

    @classmethod
    def of(cls, split: Split, *, seed: int, batch: int, classes: int, part: Part = Part()) -> "Resident":
        return cls(_checked_take(split, np.arange(len(split)), classes), seed, batch, part)

    def feeds(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields what steps `start` to `stop` are fed with."""
        for step in range(start, stop):
            index, view = deal(self.seed, len(self.held["label"]), self.batch, step)
            rows = self.part.rows(self.batch)
            yield {"index": index[rows], "view": view[rows]}

    @staticmethod
    def raw(held: Mapping[str, Any], fed: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the raw batch on the device."""
        taken = {name: array[fed["index"]] for name, array in held.items()}
        return taken | dict(fed) | {"mask": jnp.ones(fed["index"].shape, jnp.float32)}


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A split read as it is used, through Grain's threads, `ahead` batches in advance."""

    split: Split
    seed: int
    batch: int
    classes: int
    part: Part = Part()
    threads: int = 4
    ahead: int = 4

    held = {}

    def __len__(self):
        return np.iinfo(np.int32).max

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        index, view = deal(self.seed, len(self.split), self.batch, int(step))
        rows = self.part.rows(self.batch)
        return _checked_take(self.split, index[rows], self.classes) | {"index": index[rows], "view": view[rows]}

    def feeds(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields what steps `start` to `stop` are fed with."""
        if start == stop:
            return
        import grain

        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=self.ahead)
        yield from grain.MapDataset.source(self)[start:stop].to_iter_dataset(options)

    @staticmethod
    def raw(held: Mapping[str, Any], fed: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the raw batch on the device."""
        return dict(fed) | {"mask": jnp.ones(fed["index"].shape, jnp.float32)}


def once(split: Split, batch: int, classes: int, part: Part = Part()) -> Iterator[dict[str, np.ndarray]]:
    """Yields a whole split in order, the last batch padded with masked copies of its first row."""
    for start in range(0, len(split), batch):
        index = np.arange(start, start + batch)
        mask = index < len(split)
        rows = part.rows(batch)
        index, mask = np.where(mask, index, start)[rows], mask[rows]
        yield _checked_take(split, index, classes) | {
            "index": index.astype(np.int32),
            "view": np.zeros(len(index), np.int32),
            "mask": mask.astype(np.float32),
        }


def statistics(split: Split, examples: int = 0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measures the mean and standard deviation of every channel, in units of [0, 1].

    Args:
        split: the training split.
        examples: how many to look at, evenly spaced; 0 for all.

    A channel that never changes is given the standard deviation 1.
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
