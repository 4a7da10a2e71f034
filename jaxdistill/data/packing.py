"""Several short texts in a row of tokens: first-fit packing.

The texts of the training split, the longest first, are put into the first row that has room (first-fit decreasing:
Johnson, "Near-Optimal Bin Packing Algorithms", 1973: at most 11/9 of the fewest rows, and 2/3 of a row more). A row has
the field `document`, the number of the text that each token is of, from 1 on, and 0 for padding: attention, positions
and next tokens respect it. Rows of other splits are one text each, so that metrics of texts are not those of rows.
"""

import dataclasses

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, Split
from jaxdistill.data.routes import ROUTE
from jaxdistill.data.tokenized_texts import TEACHER
from jaxdistill.errors import UserError

DOCUMENT = "document"


def first_fit(sizes: np.ndarray, capacity: int) -> list[list[int]]:
    """Puts items, the largest first, into the first bin that has room.

    Args:
        sizes: int `[items]`, at most `capacity` each.
        capacity: of a bin.

    Returns:
        The items of each bin, ascending; of equal items the first comes first.
    """
    order = np.argsort(-sizes, kind="stable")
    leaves = 1 << max(len(sizes) - 1, 0).bit_length()
    # The largest room of the bins below each node of a binary tree; node i has the children 2 i and 2 i + 1.
    room = [capacity] * (2 * leaves)
    bins: list[list[int]] = []
    for item in order.tolist():
        size, node = int(sizes[item]), 1
        while node < leaves:
            node = 2 * node + (room[2 * node] < size)
        if node - leaves == len(bins):
            bins.append([])
        bins[node - leaves].append(item)
        room[node] -= size
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return [sorted(items) for items in bins]


@dataclasses.dataclass(frozen=True)
class Packed(Split):
    """Rows of several texts of a split.

    Attributes:
        split: texts that are padded on the right, with `token_counts`.
        texts: their positions, row after row, int64 `[texts]`.
        starts: the place in `texts` of each row's first text and the end of the last, int64 `[rows + 1]`.
    """

    split: Split
    texts: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the fields of the texts, one text after another, and `document`, int32 `[n, length]` each."""
        positions = np.asarray(positions)
        counts = self.starts[positions + 1] - self.starts[positions]
        row = np.repeat(np.arange(len(positions)), counts)
        number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        texts = self.texts[self.starts[positions][row] + number]
        fields = self.split.take(texts)
        length = fields["tokens"].shape[1]
        sizes = self._counts()[texts].astype(np.int64)
        ends = np.cumsum(sizes)
        before = (ends - sizes)[np.searchsorted(row, np.arange(len(positions)))]  # tokens of the rows before each
        place = np.arange(sizes.sum()) - np.repeat(before[row], sizes)
        from_text = np.arange(sizes.sum()) - np.repeat(ends - sizes, sizes)
        to, of = (np.repeat(row, sizes), place), (np.repeat(np.arange(len(texts)), sizes), from_text)
        packed = {DOCUMENT: np.zeros((len(positions), length), np.int32)}
        packed[DOCUMENT][to] = np.repeat(number + 1, sizes)
        for name in [name for name in fields if name != "label"]:
            values, is_place = fields[name][of], name == "word"
            packed[name] = np.full((len(positions), length), -1 if is_place else 0, np.int32)
            packed[name][to] = np.where(values >= 0, values + place - from_text, values) if is_place else values
        return packed | {"label": np.full(len(positions), UNLABELLED, np.int32)}

    def labels(self) -> np.ndarray:
        return np.full(len(self), UNLABELLED, np.int32)

    @property
    def is_mapped(self) -> bool:
        return self.split.is_mapped

    @property
    def token_counts(self) -> np.ndarray:
        """The number of tokens of each row, int32 `[rows]`."""
        ends = np.concatenate([[0], np.cumsum(self._counts()[self.texts], dtype=np.int64)])
        return (ends[self.starts[1:]] - ends[self.starts[:-1]]).astype(np.int32)

    def _counts(self) -> np.ndarray:
        counts = self.split.token_counts
        assert counts is not None
        return counts


def pack(dataset: Dataset) -> Dataset:
    """Returns a dataset of texts whose training rows are packed.

    Raises:
        UserError: for data without texts of different lengths, with labels, pairs, routes, or tokens of a teacher.
    """
    train = dataset.split("train")
    if train.token_counts is None:
        raise UserError(
            "data.packing must be False for data without texts of different lengths, got True. It is for 'text_rows',"
            " 'answers' and texts of TFDS"
        )
    of_teacher = (name for name in dataset.fields if name.startswith(TEACHER))
    obstacles = sorted({"segment", ROUTE, *of_teacher} & {*dataset.fields})
    if dataset.class_names or obstacles:
        reason = f"with {obstacles}" if obstacles else "with a class for each text"
        raise UserError(f"data.packing must be False for texts {reason}, got True. Remove it")
    (length,) = dataset.shape
    bins = {role: [[text] for text in range(len(split))] for role, split in dataset.splits.items()}
    bins["train"] = first_fit(train.token_counts, length)
    splits = {
        role: Packed(split, np.concatenate(bins[role]), np.cumsum([0, *map(len, bins[role])]))
        for role, split in dataset.splits.items()
    }
    return dataclasses.replace(dataset, splits=splits)
