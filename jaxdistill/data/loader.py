"""In which order examples go, and how they reach the device: resident there, or streamed through Grain.

Batch number s of a run is a pure function of (seed, s) (`dealing`), so every example is seen equally often whatever
the batch size, and a run resumes at the exact position by knowing its step. Both loaders give the same batches for
the same seed.

A raw batch is `{"image" or "tokens", "label", "index", "view", "mask"}`, and `token_mask` of texts that are padded:
`index` is the example's place in the whole of its split, `view` how often it was dealt before (the epoch; counted from
0 again after `cycle` views where that is not 0), `mask` 0 for padding. With cached networks it also has what they say
of these examples in these views, `cached/...`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdistill.core import CACHED
from jaxdistill.data.dataset import CHUNK, Split, check_finite
from jaxdistill.data.output_cache import NO_ANSWERS, Answers
from jaxdistill.data.sampling import dealt
from jaxdistill.errors import UserError

NEVER = np.iinfo(np.int32).max
"""A number of views that is never reached."""


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
    if "image" in batch and batch["image"].dtype != np.uint8:
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
    """A split decoded once and held on the device; the inputs of a step are indices alone.

    Attributes:
        resident: the arrays for the device, `{"image": uint8 [examples, ...], "label": int32 [examples]}` or tokens,
            the whole of the split by index; and what cached networks say, `{"cached/...": [examples, views, ...]}`.
        cycle: after how many views an example's views come again; 0 for never.
    """

    split: Split
    resident: Mapping[str, np.ndarray]
    seed: int
    batch: int
    part: Part = Part()
    cycle: int = 0

    leading = 0

    @classmethod
    def of(
        cls,
        split: Split,
        *,
        seed: int,
        batch: int,
        classes: int,
        part: Part = Part(),
        answers: Answers = NO_ANSWERS,
        cycle: int = 0,
    ) -> "Resident":
        whole = split.whole
        resident = _checked_take(whole, np.arange(len(whole)), classes) | answers.load_all()
        return cls(split, resident, seed, batch, part, cycle)

    def step_inputs(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the inputs of steps `start` to `stop`."""
        for step in range(start, stop):
            index, view = dealt(self.split, self.seed, self.batch, step)
            rows = self.part.rows(self.batch)
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
    """A split read as it is used, by Grain's threads, `ahead` batches in advance.

    Decoders work outside of Python's lock: more processes in the place of threads were slower (benchmarks/data.py).
    """

    split: Split
    seed: int
    batch: int
    classes: int
    part: Part = Part()
    answers: Answers = NO_ANSWERS
    cycle: int = 0
    threads: int = 4
    ahead: int = 4

    resident = {}
    leading = 0

    def __len__(self):
        return np.iinfo(np.int32).max

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        index, view = dealt(self.split, self.seed, self.batch, int(step))
        own = self.part.rows(self.batch)
        return rows(self.split.whole, self.classes, index[own], view[own] % (self.cycle or NEVER), self.answers)

    def step_inputs(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the inputs of steps `start` to `stop`."""
        if start == stop:
            return
        import grain

        ahead = max(self.ahead, self.threads)  # a thread reads a batch
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=ahead)
        yield from grain.MapDataset.source(self)[start:stop].to_iter_dataset(options)

    @staticmethod
    def make_batch(resident: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the raw batch on the device."""
        return dict(inputs) | {"mask": jnp.ones(inputs["index"].shape, jnp.float32)}


@dataclasses.dataclass(frozen=True)
class Lanes:
    """Several loaders of one whole split side by side: batches `[lanes, batch, ...]`; resident arrays are shared."""

    loaders: tuple[Any, ...]
    resident: Mapping[str, np.ndarray]

    leading = 1

    @classmethod
    def of(cls, loaders: Iterable[Any]) -> "Lanes":
        """Joins loaders; an example's label is held where some lane may see it.

        Raises:
            UserError: where a lane would see labels that are hidden from it.
        """
        light, labels, resident = [], [], {}
        for one in loaders:  # one after the other: each holds the whole split until its labels are taken
            resident, labels = resident or dict(one.resident), [*labels, one.resident.get("label")]
            light.append(dataclasses.replace(one, resident={}) if one.resident else one)
        if not resident:
            return cls(tuple(light), {})
        label = np.maximum.reduce(labels)
        for one, seen in zip(light, labels, strict=True):
            own = one.split.index(np.arange(len(one.split)))
            if not np.array_equal(seen[own], label[own]):
                raise UserError(
                    "lanes differ in whether they see the labels of examples they share; set data.resident=no"
                )
        return cls(tuple(light), resident | {"label": label})

    def step_inputs(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the inputs of steps `start` to `stop`."""
        for inputs in zip(*(one.step_inputs(start, stop) for one in self.loaders), strict=True):
            yield {name: np.stack([one[name] for one in inputs]) for name in inputs[0]}

    def make_batch(self, resident: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the raw batch on the device."""
        return self.loaders[0].make_batch(resident, inputs)


def rows(
    whole: Split, classes: int, index: np.ndarray, view: np.ndarray, answers: Answers = NO_ANSWERS
) -> dict[str, np.ndarray]:
    """Returns the examples of a whole split at `index`, in these views, int32 `[n]` each, and what is said of them."""
    # An example in several views is decoded once.
    places, back = np.unique(index, return_inverse=True)
    taken = {name: x[back] for name, x in _checked_take(whole, places, classes).items()}
    return taken | {"index": index, "view": view} | answers.take(index, view)


def once(
    split: Split, batch: int, classes: int, part: Part = Part(), answers: Answers = NO_ANSWERS
) -> Iterator[dict[str, np.ndarray]]:
    """Yields a whole split in order, the last batch padded with masked copies of its first row."""
    for start in range(0, len(split), batch):
        place = np.arange(start, start + batch)
        mask = place < len(split)
        own = part.rows(batch)
        place, mask = np.where(mask, place, start)[own], mask[own]
        view = np.zeros(len(place), np.int32)
        yield rows(split.whole, classes, split.index(place), view, answers) | {"mask": mask.astype(np.float32)}


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
