"""Splits of texts that a tokenizer of a checkpoint turns into tokens."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, DatasetSettings, Split, take_arrays
from jaxdistill.data.labels import Place
from jaxdistill.data.spilled import is_mapped, iterate
from jaxdistill.data.tokenizers import Tokenizer, Tokens, check_unicode, open_tokenizer
from jaxdistill.errors import UserError

TEACHER = "teacher_"
"""The prefix of the fields of the same text in the teacher's tokens."""

FIELDS = ("tokens", "token_mask", "segment", "word", "answer_mask", "document", "span")
"""Fields of tokens, `[length]` each, of which a short text needs fewer."""

TOKEN_FIELDS = frozenset([*FIELDS, *(TEACHER + field for field in FIELDS)])


@dataclasses.dataclass(frozen=True)
class TokenizedTexts(Split):
    """Texts as tokens, which are padded on the right as they are read.

    Attributes:
        tokens: of the student's tokenizer, the padding of which is 0.
        label: int32 `[n]`.
        length: number of tokens that a text is padded to.
        are_pairs: whether a text has two segments.
        teacher_tokens: the same texts by the teacher's tokenizer, or with the same answers.
        answers: by prefix of the fields, whether each token is of an answer, int8 `[tokens]`; empty without answers.
        spans: by prefix of the fields, the number of each token's span, int32 `[tokens]`; empty without spans.
        supervision: `labels` or `target` of the texts, if they have any.
    """

    tokens: Tokens
    label: np.ndarray
    length: int
    are_pairs: bool = False
    teacher_tokens: Tokens | None = None
    answers: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    spans: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    supervision: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `tokens`, `token_mask`, `segment` of pairs, `word`, and those of the teacher, `[n, length]` each.

        Texts with answers have `answer_mask` instead of `word`, which is the position of the first token of a token's
        word; -1 for special tokens and padding. Tokens of two tokenizers have the `span` of bytes of both that they are
        of (`data.spans`), -1 for none.
        """
        fields = self._pad(self.tokens, positions, "") | {"label": self.label[positions]}
        fields |= take_arrays(self.supervision, positions)
        if self.teacher_tokens is not None:
            padded = self._pad(self.teacher_tokens, positions, TEACHER)
            fields |= {TEACHER + name: array for name, array in padded.items() if name != "word"}
        return fields

    def _pad(self, tokens: Tokens, positions: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
        column = np.arange(self.length)
        mask = column < tokens.counts[positions][:, None]
        index = np.where(mask, tokens.starts[positions][:, None] + column, 0)
        arrays = {"tokens": tokens.token} | ({"segment": tokens.segment} if self.are_pairs else {})
        arrays |= {"answer_mask": self.answers[prefix]} if self.answers else {}
        padded = {name: np.where(mask, array[index], 0).astype(np.int32) for name, array in arrays.items()}
        padded["token_mask"] = mask.astype(np.int32)
        numbers = {} if self.answers else {"word": tokens.word}
        numbers |= {"span": self.spans[prefix]} if self.spans else {}
        return padded | {name: np.where(mask, array[index], -1).astype(np.int32) for name, array in numbers.items()}

    def labels(self) -> np.ndarray:
        return self.label

    @property
    def is_mapped(self) -> bool:
        return is_mapped(self.tokens.token)

    @property
    def token_counts(self) -> np.ndarray:
        """The number of tokens of each text, of both tokenizers the larger, int32 `[n]`."""
        counts = self.tokens.counts
        return counts if self.teacher_tokens is None else np.maximum(counts, self.teacher_tokens.counts)


@dataclasses.dataclass(frozen=True)
class TextRows:
    """The rows of a split before they are tokens.

    Attributes:
        texts: the first or only text of each row.
        pairs: the second; `None` without.
        label: int32 `[rows]`; `None` without labels.
        supervision: `labels` or `target` beside, if the rows have any.
    """

    texts: Sequence[str]
    pairs: Sequence[str] | None = None
    label: np.ndarray | None = None
    supervision: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def check_settings(settings: DatasetSettings) -> None:
    """Raises `UserError` for a tokenizer or length that is not set, before any text is read."""
    if not settings.tokenizer:
        raise UserError(
            f"data.tokenizer must be set for the texts of {settings.name!r}, got ''. Name the folder of a checkpoint"
            " with its tokenizer"
        )
    if not settings.length:
        raise UserError(
            f"data.length must be set for the texts of {settings.name!r}, got 0. It is the largest number of tokens of"
            " a text, such as 128"
        )


def tokenize(
    rows: Mapping[str, TextRows], class_names: tuple[str, ...], settings: DatasetSettings, place: Place
) -> Dataset:
    """Returns the dataset of the tokens of rows.

    Args:
        rows: by role.
        class_names: of the labels; none without.
        settings: name the tokenizers, and the most tokens of a text.
        place: describes a row of a role in an error.

    Raises:
        UserError: for a split without texts, and for a text without any token.
    """
    tokenizer = open_tokenizer(settings.tokenizer)
    teacher = (
        open_tokenizer(settings.teacher_tokenizer, "data.teacher_tokenizer") if settings.teacher_tokenizer else None
    )
    splits: dict[str, Split] = {}
    for role, part in rows.items():
        if not len(part.texts):
            raise UserError(f"data.splits.{role} must have at least one text, got none. Take a larger part")
        encode = functools.partial(_encode, rows=part, length=settings.length, role=role, place=place)
        label = np.full(len(part.texts), UNLABELLED, np.int32) if part.label is None else part.label
        splits[role] = TokenizedTexts(
            encode(tokenizer),
            label,
            settings.length,
            are_pairs=part.pairs is not None,
            teacher_tokens=encode(teacher) if teacher else None,
            supervision=part.supervision,
        )
    return Dataset(
        splits,
        class_names,
        (settings.length,),
        tokenizer.vocabulary,
        tokenizer=tokenizer.identity,
        mask_token=tokenizer.mask_token,
        teacher_tokenizer=teacher.identity if teacher else "",
        teacher_vocabulary=teacher.vocabulary if teacher else 0,
    )


def _encode(tokenizer: Tokenizer, *, rows: TextRows, length: int, role: str, place: Place) -> Tokens:
    try:
        tokens = tokenizer.encode(rows.texts, rows.pairs, length)
    except TypeError:  # of a text that is no Unicode
        for row, text in ((row, text) for texts in (rows.texts, rows.pairs or ()) for row, text in enumerate(texts)):
            check_unicode(text, place(role, row))
        raise
    empty = np.flatnonzero(tokens.counts == 0)
    if len(empty):  # a tokenizer with special tokens gives these
        raise UserError(
            f"{place(role, int(empty[0]))} must have a text with tokens, got {rows.texts[empty[0]]!r}, one of"
            f" {len(empty)} without. Remove these rows, or take a tokenizer that adds special tokens"
        )
    return tokens


def check_texts(texts: Sequence[Any], role: str, place: Place) -> None:
    """Raises `UserError` for the first value that is no string; an empty one is its special tokens."""
    rows = [int(row) for rows, part in iterate(texts) for row in rows[[not isinstance(text, str) for text in part]]]
    if rows:
        text = texts[min(rows)]
        raise UserError(
            f"{place(role, min(rows))} must have a string as text, got {text!r} ({type(text).__name__}). Correct the"
            " row, or name another column in data.text and data.pair"
        )
