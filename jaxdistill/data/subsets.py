"""Parts of a training split, or of its labels: partitions, subsets, classes, hidden labels.

An example keeps the index that it has in the base split, whatever is cut, so that caches, memories and augmentations of
different parts refer to the same examples.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxdistill.config.schema import DataConfig, PartitionConfig, SubsetConfig
from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, Split
from jaxdistill.errors import UserError, check_least, check_positive, unknown

PARTITIONS = ("iid", "class", "dirichlet")

Labels = Callable[[], np.ndarray]
"""Returns the labels of a split; a streamed one takes a pass over it."""


@dataclasses.dataclass(frozen=True)
class Subset(Split):
    """The examples of `split`, a base, at `indices`, int32 `[n]`."""

    split: Split
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        return self.split.take(self.indices[positions])

    def labels(self) -> np.ndarray:
        return self.split.labels()[self.indices]

    @property
    def base(self) -> Split:
        return self.split

    def index(self, positions: np.ndarray) -> np.ndarray:
        return self.indices[positions]


@dataclasses.dataclass(frozen=True)
class Hidden(Split):
    """A base split whose labels are hidden unless `visible`, bool `[len(split)]`."""

    split: Split
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.split)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        batch = self.split.take(positions)
        return batch | {"label": np.where(self.visible[positions], batch["label"], UNLABELLED).astype(np.int32)}

    def labels(self) -> np.ndarray:
        if not self.visible.any():
            return np.full(len(self), UNLABELLED, np.int32)
        return np.where(self.visible, self.split.labels(), UNLABELLED).astype(np.int32)

    @property
    def token_counts(self) -> np.ndarray | None:
        return self.split.token_counts


def first_of_each_class(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Returns the positions of the first `per_class` examples of every class."""
    return np.concatenate([np.flatnonzero(labels == value)[:per_class] for value in np.unique(labels)])


def partition(labels: np.ndarray, of: int, by: str, *, concentration: float, seed: int) -> list[np.ndarray]:
    """Cuts a split into disjoint parts that together are all of it: a pure function of its arguments.

    Args:
        labels: `[n]`, of the base split; by "iid" only their number matters.
        of: the number of parts.
        by: "iid", parts of equal size (to one example) at random; "class", the classes at random, each of them in one
            part; "dirichlet", the examples of each class in fractions drawn from Dirichlet(concentration, ...,
            concentration), after Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks",
            ICML 2019, https://arxiv.org/abs/1905.12022, section 4. Hsu, Qi, Brown, "Measuring the Effects of
            Non-Identical Data Distribution for Federated Visual Classification", 2019,
            https://arxiv.org/abs/1909.06335, draw each part's mixture of classes instead, for parts of equal size.
            The difference to both: an empty part takes an example of the largest.
        concentration: small for parts of few classes, large for similar parts.
        seed: of the partition alone.

    Returns:
        `of` arrays of positions, int32, ascending, none empty.

    Raises:
        UserError: for more parts than examples (or classes), an unknown rule, a concentration that is not positive,
            and hidden labels that the rule needs.
    """
    check_least("data.partition.of", of, 1)
    check_least("data.partition.seed", seed, 0)
    if by not in PARTITIONS:
        raise unknown("data.partition.by", by, PARTITIONS, "a rule of partitions")
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
    order = draw.permutation(classes)
    return [np.flatnonzero(np.isin(labels, order[part::of])) for part in range(of)]


def _by_dirichlet(labels: np.ndarray, of: int, concentration: float, draw: np.random.Generator) -> list[np.ndarray]:
    check_positive("data.partition.concentration", concentration)
    parts: list[list[int]] = [[] for _ in range(of)]
    for value in np.unique(labels):
        positions = draw.permutation(np.flatnonzero(labels == value))
        fractions = draw.dirichlet(np.full(of, concentration))
        if not np.isfinite(fractions).all():
            raise UserError(
                f"data.partition.concentration={concentration} is too extreme to draw from; 'class' is its end"
            )
        cuts = np.round(np.cumsum(fractions)[:-1] * len(positions)).astype(int)
        for part, new in zip(parts, np.split(positions, cuts), strict=True):
            part.extend(new)
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
    return [np.array(part) for part in parts]


def _check_labelled(labels: np.ndarray, path: str) -> None:
    if (labels == UNLABELLED).any():
        raise UserError(f"{path} goes by labels, and the training split has examples without")


def class_numbers(path: str, classes: Iterable[str | int], names: Sequence[str]) -> list[int]:
    """Returns the numbers of classes given by number or name; `"7"` is a name first, then a number.

    Raises:
        UserError: for an unknown class.
    """
    numbers = []
    for entry in classes:
        if isinstance(entry, str) and entry in names:
            numbers.append(names.index(entry))
        elif str(entry).isdecimal() and int(entry) < len(names):
            numbers.append(int(entry))
        else:
            options = names if len(names) <= 20 else [*names[:20], f"... {len(names)} in all"]
            raise unknown(path, entry, options, "a class")
    return numbers


def choose(dataset: Dataset, data: DataConfig) -> Split:
    """Returns the part of the training split, and of its labels, that a `data` section selects.

    In this order: `partition` cuts the base split; `classes` keeps some classes; `subset` a number or fraction of
    those; of the labels of the rest, `labels_per_class` shows the first of every class, and `hide_labels_of` hides
    those of some classes.

    Raises:
        UserError: for anything impossible, and if no example is left.
    """
    split = dataset.split("train")
    labels = functools.cache(split.labels)
    positions = _take_part(len(split), labels, data.partition)
    if data.classes:
        _check_labelled(labels(), "data.classes")
        numbers = class_numbers("data.classes", data.classes, dataset.class_names)
        positions = positions[np.isin(labels()[positions], numbers)]
        if not len(positions):
            raise UserError(
                f"data.classes={tuple(data.classes)} leaves no example to train on; name other classes, or cut"
                " the split into fewer parts"
            )
    positions = _draw_subset(positions, data.subset)
    visible = _find_visible(dataset, labels, positions, data)
    split = split if visible is None else Hidden(split, visible)
    return split if len(positions) == len(split) else Subset(split, positions)


def _take_part(examples: int, labels: Labels, section: PartitionConfig) -> np.ndarray:
    check_least("data.partition.of", section.of, 1)
    if not 0 <= section.part < section.of:
        raise UserError(
            f"data.partition.part={section.part} of {section.of} parts; they are numbered 0 to {section.of - 1}"
        )
    if section.of == 1:
        return np.arange(examples, dtype=np.int32)
    # Labels of a streamed set take a pass over it, and "iid" goes without.
    needed = np.zeros(examples, np.int32) if section.by == "iid" else labels()
    parts = partition(needed, section.of, section.by, concentration=section.concentration, seed=section.seed)
    return parts[section.part]


def _draw_subset(positions: np.ndarray, section: SubsetConfig) -> np.ndarray:
    """Draws at random; a smaller subset of the same seed is contained in a larger one."""
    fraction, count = section.fraction, section.count
    check_least("data.subset.count", count, 0)
    check_least("data.subset.seed", section.seed, 0)
    if not 0 < fraction <= 1:
        raise UserError(f"data.subset.fraction must be above 0 and at most 1, got {fraction}")
    if fraction < 1 and count:
        raise UserError(f"data.subset has fraction={fraction} and count={count}; set one of them")
    if count > len(positions):
        raise UserError(f"data.subset.count={count} of {len(positions)} examples; there are not as many")
    number = count or max(1, round(fraction * len(positions)))
    if number == len(positions):
        return positions
    draw = np.random.default_rng([section.seed, zlib.crc32(b"subset")])
    return np.sort(draw.permutation(positions)[:number])


def _find_visible(dataset: Dataset, labels: Labels, positions: np.ndarray, data: DataConfig) -> np.ndarray | None:
    """Returns the labels of the base split that are seen, bool `[n]`; `None` for all."""
    per_class = data.labels_per_class
    hidden = class_numbers("data.hide_labels_of", data.hide_labels_of, dataset.class_names)
    if data.unlabelled:
        if per_class or hidden:
            raise UserError(
                "data.unlabelled hides every label; leave out data.labels_per_class and data.hide_labels_of"
            )
        return np.zeros(len(dataset.split("train")), bool)
    if not per_class and not hidden:
        return None
    _check_labelled(labels(), "data.labels_per_class" if per_class else "data.hide_labels_of")
    chosen = labels()[positions]
    largest = int(np.bincount(chosen).max())
    if per_class > largest:
        raise UserError(
            f"data.labels_per_class must be at most {largest}, the examples of the largest class, got {per_class}."
            " Leave it out to show all labels"
        )
    visible = np.zeros(len(labels()), bool)
    visible[positions[first_of_each_class(chosen, per_class)] if per_class else positions] = True
    return visible & ~np.isin(labels(), hidden)
