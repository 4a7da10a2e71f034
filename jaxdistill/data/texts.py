"""Splits of texts: one long text in windows, a byte a token; and texts that are tokens already."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, Split
from jaxdistill.data.spilled import is_mapped
from jaxdistill.errors import UserError, check_least

BYTES = 256
"""The vocabulary of a text that is read byte by byte."""

OF_BYTES = "bytes"
"""The identity of the tokenizer of bytes."""

PARTS = {"train": "[:90%]", "validation": "[90%:95%]", "test": "[95%:]"}
"""The default splits, in percent of the bytes or rows."""


@dataclasses.dataclass(frozen=True)
class Windows(Split):
    """A text, uint8 or int32 `[tokens]`, in windows of `length` tokens.

    Window i begins at token `i (length - 1)`, the last token of the window before it, so that one pass predicts every
    token but the first exactly once. Tokens that do not fill a window at the end are left out.
    """

    text: np.ndarray
    length: int

    def __len__(self) -> int:
        return max(len(self.text) - 1, 0) // (self.length - 1)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        index = np.asarray(positions)[:, None] * (self.length - 1) + np.arange(self.length)[None]
        return {"tokens": self.text[index].astype(np.int32), "label": np.full(len(index), UNLABELLED, np.int32)}

    def labels(self) -> np.ndarray:
        return np.full(len(self), UNLABELLED, np.int32)

    @property
    def is_mapped(self) -> bool:
        return is_mapped(self.text)


@dataclasses.dataclass(frozen=True)
class Texts(Split):
    """Texts as tokens.

    Attributes:
        tokens: int32 `[n, length]`.
        label: int32 `[n]`.
        fields: further fields, int32 `[n, ...]` each, such as `token_mask`.
    """

    tokens: np.ndarray
    label: np.ndarray
    fields: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        taken = {"tokens": self.tokens[positions], "label": self.label[positions]}
        return taken | {name: array[positions] for name, array in self.fields.items()}

    def labels(self) -> np.ndarray:
        return self.label

    @property
    def is_mapped(self) -> bool:
        return is_mapped(self.tokens)


def make_windows(
    name: str,
    splits: Mapping[str, bytes | np.ndarray],
    length: int,
    *,
    vocabulary: int = BYTES,
    tokenizer: str = OF_BYTES,
) -> Dataset:
    """Returns a dataset of a text for each role, without labels.

    Args:
        name: of the dataset, for messages.
        splits: bytes, or tokens int32 `[tokens]`, by role.
        length: tokens of a window.
        vocabulary: the number of different tokens.
        tokenizer: the identity of their tokenizer.

    Raises:
        UserError: for a length that is not set, or a split that does not fill a window.
    """
    if not length:
        raise UserError(f"data.length must be set for the text {name!r}, got 0. It is the number of tokens of a window")
    check_least("data.length", length, 2)
    windows, noun = {}, "bytes" if tokenizer == OF_BYTES else "tokens"
    for role, text in splits.items():
        windows[role] = Windows(np.frombuffer(text, np.uint8) if isinstance(text, bytes) else text, length)
        if not len(windows[role]):
            raise UserError(
                f"the {role} split of {name!r} must fill a window of data.length={length}, got {len(text)} {noun}. Take"
                " a smaller length, or a larger part in data.splits"
            )
    return Dataset(windows, (), (length,), vocabulary, of_bytes=tokenizer == OF_BYTES, tokenizer=tokenizer)


def slice_of(role: str, part: str, size: int) -> slice:
    """Returns a part such as `"[:90%]"` of `size` bytes or rows.

    Raises:
        UserError: for another form, and for a part without content.
    """
    match = re.fullmatch(r"\[(?:(\d+)%)?:(?:(\d+)%)?\]", part)
    start, stop = (int(match[1] or 0), int(match[2] or 100)) if match else (0, 0)
    if not start < stop <= 100:
        raise UserError(
            f"data.splits.{role} must be a part such as '[:90%]', '[90%:95%]' or '[95%:]', got {part!r}. Correct it"
        )
    return slice(size * start // 100, size * stop // 100)
