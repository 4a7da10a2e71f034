"""Several splits as one: each batch has rows of each in proportion to its weight."""

import dataclasses
import functools
import operator
from collections.abc import Sequence

import numpy as np

from jaxdistill.data.dataset import Split
from jaxdistill.data.images import convert_units


@dataclasses.dataclass(frozen=True)
class Mixture(Split):
    """The examples of `members` one after the other; `weights` are for the sampling.

    The base of a mixture is the mixture of its members' bases, so an index is unique, and that of the first member's
    examples is what it is without the others.
    """

    members: tuple[Split, ...]
    weights: tuple[float, ...]

    @functools.cached_property
    def lengths(self) -> tuple[int, ...]:
        """Numbers of examples by member."""
        return tuple(map(len, self.members))

    def __len__(self) -> int:
        return sum(self.lengths)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        member, position = _locate(positions, self.lengths)
        rows = {number: np.flatnonzero(member == number) for number in np.unique(member)}
        taken = {number: self.members[number].take(position[row]) for number, row in rows.items()}
        order = np.argsort(np.concatenate([*rows.values()]))
        return {key: np.concatenate([batch[key] for batch in taken.values()])[order] for key in ("image", "label")}

    def labels(self) -> np.ndarray:
        return np.concatenate([split.labels() for split in self.members])

    @functools.cached_property
    def base(self) -> Split:
        bases = tuple(split.base for split in self.members)
        return self if all(map(operator.is_, bases, self.members)) else Mixture(bases, self.weights)

    def index(self, positions: np.ndarray) -> np.ndarray:
        member, position = _locate(positions, self.lengths)
        starts = np.cumsum([0, *self.base.lengths])
        index = np.empty(len(member), np.int32)
        for number, split in enumerate(self.members):
            index[member == number] = starts[number] + split.index(position[member == number])
        return index


@dataclasses.dataclass(frozen=True)
class Converted(Split):
    """A base split whose images are written in the units of `dtype`."""

    split: Split
    dtype: np.dtype

    def __len__(self) -> int:
        return len(self.split)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        batch = self.split.take(positions)
        return batch | {"image": convert_units(batch["image"], self.dtype)}

    def labels(self) -> np.ndarray:
        return self.split.labels()


def _locate(positions: np.ndarray, lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the member of each position, and the position within it."""
    ends = np.cumsum(lengths)
    member = np.searchsorted(ends, positions, side="right")
    return member, np.asarray(positions) - np.concatenate([[0], ends])[member]
