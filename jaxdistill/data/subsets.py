"""Part of a training split, or part of its labels: partitions, subsets, classes, hidden labels.

Whatever is cut, an example keeps the index that it has in the whole split, so that caches, memories and augmentations
of different parts speak of the same examples.
"""

import dataclasses
import functools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, Split
from jaxdistill.errors import UserError, check_least, check_positive, unknown

PARTITIONS = ("iid", "class", "dirichlet")


@dataclasses.dataclass(frozen=True)
class Subset(Split):
    """The examples of `split`, a whole one, at `indices`, int32 `[n]`."""

    split: Split
    indices: np.ndarray

    def __len__(self):
        return len(self.indices)

    def take(self, places):
        return self.split.take(self.indices[places])

    def labels(self):
        return self.split.labels()[self.indices]

    @property
    def whole(self):
        return self.split

    def index(self, places):
        return self.indices[places]


@dataclasses.dataclass(frozen=True)
class Hidden(Split):
    """A whole split that shows the labels where `visible`, bool `[len(split)]`, and hides the others."""

    split: Split
    visible: np.ndarray

    def __len__(self):
        return len(self.split)

    def take(self, places):
        batch = self.split.take(places)
        return batch | {"label": np.where(self.visible[places], batch["label"], UNLABELLED).astype(np.int32)}

    def labels(self):
        if not self.visible.any():
            return np.full(len(self), UNLABELLED, np.int32)
        return np.where(self.visible, self.split.labels(), UNLABELLED).astype(np.int32)


def first_of_each_class(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Returns the places of the first `per_class` examples of every class."""
    return np.concatenate([np.flatnonzero(labels == value)[:per_class] for value in np.unique(labels)])


def partition(labels: np.ndarray, of: int, by: str, concentration: float, seed: int) -> list[np.ndarray]:
    """Cuts a split into disjoint parts that together are all of it: a pure function of its arguments.

    Args:
        labels: `[n]`, of the whole split; by "iid" only their number counts.
        of: how many parts.
        by: "iid", parts of equal size (to one example) at random; "class", the classes dealt out at random, each
            whole in one part; "dirichlet", the examples of each class shared out in proportions drawn from
            Dirichlet(concentration, ..., concentration), after Yurochkin et al., "Bayesian Nonparametric Federated
            Learning of Neural Networks", ICML 2019, https://arxiv.org/abs/1905.12022, section 4. Hsu, Qi, Brown,
            "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019,
            https://arxiv.org/abs/1909.06335, draw each part's mixture of classes instead, for parts of equal size.
            Where we differ from both: a part that got nothing takes an example of the largest.
        concentration: small for parts of few classes, large for parts that are alike.
        seed: of the partition alone.

    Returns:
        `of` arrays of places, int32, ascending, none empty.

    Raises:
        UserError: for more parts than examples (or classes), a way that is not there, a concentration that is not
            positive, and labels that are hidden where they are needed.
    """
    check_least("data.partition.of", of, 1)
    check_least("data.partition.seed", seed, 0)
    if by not in PARTITIONS:
        raise unknown("way of data.partition.by", by, PARTITIONS)
    if of > len(labels):
        raise UserError(f"data.partition.of={of} parts of {len(labels)} examples; a part has at least one")
    draw = np.random.default_rng([seed, zlib.crc32(b"partition")])
    if by == "iid":
        parts = np.array_split(draw.permutation(len(labels)), of)
    else:
        _check_labelled(labels, f"data.partition.by={by!r}")
        parts = _by_class(labels, of, draw) if by == "class" else _by_dirichlet(labels, of, concentration, draw)
    return [np.sort(part).astype(np.int32) for part in parts]


def _by_class(labels: np.ndarray, of: int, draw: np.random.Generator) -> list[np.ndarray]:
    classes = np.unique(labels)
    if of > len(classes):
        raise UserError(
            f"data.partition.of={of} parts by class, and there are examples of {len(classes)} classes; make"
            " fewer parts, or cut it by 'iid' or 'dirichlet'"
        )
    dealt = draw.permutation(classes)
    return [np.flatnonzero(np.isin(labels, dealt[part::of])) for part in range(of)]


def _by_dirichlet(labels: np.ndarray, of: int, concentration: float, draw: np.random.Generator) -> list[np.ndarray]:
    check_positive("data.partition.concentration", concentration)
    parts: list[list[int]] = [[] for _ in range(of)]
    for value in np.unique(labels):
        there = draw.permutation(np.flatnonzero(labels == value))
        shares = draw.dirichlet(np.full(of, concentration))
        if not np.isfinite(shares).all():
            raise UserError(
                f"data.partition.concentration={concentration} is too extreme to draw from; 'class' is its end"
            )
        cuts = np.round(np.cumsum(shares)[:-1] * len(there)).astype(int)
        for part, new in zip(parts, np.split(there, cuts), strict=True):
            part.extend(new)
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
    return [np.array(part) for part in parts]


def _check_labelled(labels: np.ndarray, what: str) -> None:
    if (labels == UNLABELLED).any():
        raise UserError(f"{what} goes by labels, and the training split has examples without")


def class_numbers(what: str, classes: Iterable[str | int], names: Sequence[str]) -> list[int]:
    """Returns the numbers of classes that are told by number or name; `"7"` is a name first, then a number.

    Raises:
        UserError: for a class that is not there.
    """
    found = []
    for one in classes:
        if isinstance(one, str) and one in names:
            found.append(names.index(one))
        elif str(one).isdecimal() and int(one) < len(names):
            found.append(int(one))
        else:
            raise unknown(
                f"class in {what}", one, names if len(names) <= 20 else [*names[:20], f"... {len(names)} in all"]
            )
    return found


def chosen(dataset: Dataset, data: Mapping[str, Any]) -> Split:
    """Returns what a `data` section leaves of the training split, and of its labels.

    In this order: `partition` cuts the whole split; `only` keeps some classes; `subset` a number or share of those;
    of the labels of what is left, `labels` shows the first of every class, and `hide` hides some classes.

    Raises:
        UserError: for anything that cannot be had, and where no example is left.
    """
    split = dataset.split("train")
    labels = functools.cache(split.labels)
    kept = _part(len(split), labels, data["partition"])
    if data["only"]:
        _check_labelled(labels(), "data.classes")
        kept = kept[np.isin(labels()[kept], class_numbers("data.classes", data["only"], dataset.class_names))]
        if not len(kept):
            raise UserError(
                f"data.classes={tuple(data['only'])} leaves no example to train on; name other classes, or cut"
                " the split into fewer parts"
            )
    kept = _some(kept, **data["subset"])
    visible = _visible(dataset, labels, kept, data)
    split = split if visible is None else Hidden(split, visible)
    return split if len(kept) == len(split) else Subset(split, kept)


def _part(examples: int, labels, section: Mapping[str, Any]) -> np.ndarray:
    settings = dict(section)
    part, of = settings.pop("part"), settings["of"]
    check_least("data.partition.of", of, 1)
    if not 0 <= part < of:
        raise UserError(f"data.partition.part={part} of {of} parts; they are numbered 0 to {of - 1}")
    if of == 1:
        return np.arange(examples, dtype=np.int32)
    # Labels of a streamed set take a pass over it, and "iid" goes without.
    known = np.zeros(examples, np.int32) if settings["by"] == "iid" else labels()
    return partition(known, **settings)[part]


def _some(kept: np.ndarray, share: float, count: int, seed: int) -> np.ndarray:
    """A choice at random; a smaller one of the same seed is contained in a larger one."""
    check_least("data.subset.count", count, 0)
    check_least("data.subset.seed", seed, 0)
    if not 0 < share <= 1:
        raise UserError(f"data.subset.fraction={share} makes no sense; it is greater than 0, 1 at most")
    if share < 1 and count:
        raise UserError(f"data.subset has share={share} and count={count}; set one of them")
    if count > len(kept):
        raise UserError(f"data.subset.count={count} of {len(kept)} examples; there are not as many")
    number = count or max(1, round(share * len(kept)))
    if number == len(kept):
        return kept
    return np.sort(np.random.default_rng([seed, zlib.crc32(b"subset")]).permutation(kept)[:number])


def _visible(dataset: Dataset, labels, kept: np.ndarray, data: Mapping[str, Any]) -> np.ndarray | None:
    """Which labels of the whole split are seen; `None` for all."""
    per_class, hide = data["labels"], class_numbers("data.hide_labels_of", data["hide"], dataset.class_names)
    if data["unlabelled"]:
        if per_class or hide:
            raise UserError(
                "data.unlabelled hides every label; leave out data.labels_per_class and data.hide_labels_of"
            )
        return np.zeros(len(dataset.split("train")), bool)
    if not per_class and not hide:
        return None
    _check_labelled(labels(), "data.labels_per_class" if per_class else "data.hide_labels_of")
    visible = np.zeros(len(labels()), bool)
    visible[kept[first_of_each_class(labels()[kept], per_class)] if per_class else kept] = True
    return visible & ~np.isin(labels(), hide)
