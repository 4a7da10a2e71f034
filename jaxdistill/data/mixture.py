"""Several splits dealt as one: rows of each in proportion to its weight."""

import dataclasses
import functools
import operator
from collections.abc import Sequence

import numpy as np

from jaxdistill.data.dataset import Split
from jaxdistill.data.images import in_units_of


@dataclasses.dataclass(frozen=True)
class Mixture(Split):
    """The examples of `members` one after the other; `weights` are for the loader, which deals from each in turn.

    The whole of a mixture is the mixture of its members' wholes, so an index is unique, and that of the first
    member's examples is what it is without the others.
    """

    members: tuple[Split, ...]
    weights: tuple[float, ...]

    @functools.cached_property
    def lengths(self) -> tuple[int, ...]:
        return tuple(map(len, self.members))

    def __len__(self):
        return sum(self.lengths)

    def take(self, places):
        member, place = _located(places, self.lengths)
        rows = {number: np.flatnonzero(member == number) for number in np.unique(member)}
        taken = {number: self.members[number].take(place[there]) for number, there in rows.items()}
        order = np.argsort(np.concatenate([*rows.values()]))
        return {key: np.concatenate([batch[key] for batch in taken.values()])[order] for key in ("image", "label")}

    def labels(self):
        return np.concatenate([split.labels() for split in self.members])

    @functools.cached_property
    def whole(self):
        wholes = tuple(split.whole for split in self.members)
        return self if all(map(operator.is_, wholes, self.members)) else Mixture(wholes, self.weights)

    def index(self, places):
        member, place = _located(places, self.lengths)
        starts = np.cumsum([0, *self.whole.lengths])
        index = np.empty(len(member), np.int32)
        for number, split in enumerate(self.members):
            index[member == number] = starts[number] + split.index(place[member == number])
        return index


@dataclasses.dataclass(frozen=True)
class Converted(Split):
    """A whole split whose images are written in the units of another's type."""

    split: Split
    dtype: np.dtype

    def __len__(self):
        return len(self.split)

    def take(self, places):
        batch = self.split.take(places)
        return batch | {"image": in_units_of(batch["image"], self.dtype)}

    def labels(self):
        return self.split.labels()


def _located(places: np.ndarray, lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns which member each place is in, and its place there."""
    ends = np.cumsum(lengths)
    member = np.searchsorted(ends, places, side="right")
    return member, np.asarray(places) - np.concatenate([[0], ends])[member]
