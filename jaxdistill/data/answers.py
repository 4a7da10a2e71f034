"""Tokens of texts of which only the answers are to be learned."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxdistill.data.chats import AnsweredText
from jaxdistill.data.labels import Place
from jaxdistill.data.spans import find_bytes, locate_in_answers
from jaxdistill.data.spilled import ArrayWriter, MadeValues
from jaxdistill.data.tokenizers import CHUNK, Tokenizer, Tokens, check_unicode
from jaxdistill.errors import UserError

Row = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The tokens of a text, int32 `[tokens]`, whether each is to be learned, bool `[tokens]`, and the bytes of the text
that it is of, int64 `[tokens, 2]`, -1 for special tokens."""


def encode_answers(
    rows: Sequence[AnsweredText],
    tokenizer: Tokenizer | None,
    length: int,
    *,
    special: bool,
    role: str,
    place: Place,
    places: bool = False,
) -> tuple[Tokens, np.ndarray, int]:
    """Returns the tokens of texts, whether each is to be learned, int8 `[tokens]`, and the number of cut texts.

    The texts are read a few at a time, and large arrays are mapped.

    A token with a character of an answer is to be learned, and so are special tokens that the tokenizer adds after the
    last answer. Of a text of more than `length` tokens, the first prompt loses its first ones, all but one, until the
    first answer fits; then the text loses its last ones. A chat so keeps its first exchanges.

    Args:
        rows: the texts.
        tokenizer: `None` for the bytes of UTF-8.
        length: the most tokens of a text.
        special: whether the tokenizer adds its special tokens; not to a text whose template has them.
        role: of the split.
        place: describes a row of a role in an error.
        places: whether tokens have the bytes of their answers (`Tokens.bytes`).

    Raises:
        UserError: for a text without a token before its answer, without an answer, or that is no Unicode.
    """
    writers, starts, cut_texts = [ArrayWriter() for _ in range(3 if places else 2)], [np.zeros(1, np.int64)], 0
    for first in range(0, len(rows), CHUNK):
        texts = rows[first : first + CHUNK]
        for position, row in enumerate(texts, first):
            check_unicode(row.text, place(role, position))
        encoded = _encode_bytes(texts) if tokenizer is None else _encode(texts, tokenizer, special, places)
        cut_texts += sum(len(tokens) > length for tokens, _, _ in encoded)
        cut = []
        for position, (row, tokens) in enumerate(zip(texts, encoded, strict=True), first):
            token, learned, part = _cut(row, tokens, length, place=lambda position=position: place(role, position))
            part = locate_in_answers(part, row) if places else part
            cut.append((token.astype(np.int32), learned.astype(np.int8), part))
        for writer, parts in zip(writers, zip(*cut, strict=True), strict=False):
            writer.append(np.concatenate(parts))
        starts.append(starts[-1][-1] + np.cumsum([len(token) for token, _, _ in cut]))
    token, learned, *parts = (writer.finish() for writer in writers)
    zeros, no_word = (np.broadcast_to(np.array(value, kind), len(token)) for value, kind in ((0, "i1"), (-1, "i4")))
    bytes_of = parts[0] if places else None
    return Tokens(token, zeros, no_word, np.concatenate(starts), bytes=bytes_of), learned, cut_texts


def _cut(row: AnsweredText, tokens: Row, length: int, *, place: Callable[[], str]) -> Row:
    """Returns at most `length` tokens of a text, or raises `UserError` if it has no prompt or no answer."""
    token, learned, part = tokens
    first = int(np.argmax(learned)) if learned.any() else -1
    if first < 1:
        missing = "an answer with tokens" if first < 0 else "a prompt with tokens"
        raise UserError(
            f"{place()} must have {missing}, got {row.text!r:.60}. Correct or remove the row"
            + ("" if first else ", or take a tokenizer that adds a token before a text")
        )
    stop = first + int(np.argmin(np.append(learned[first:], False)))  # of the first answer
    start = min(max(stop - length, 0), first - 1)
    return token[start:][:length], learned[start:][:length], part[start:][:length]


def _encode_bytes(rows: Sequence[AnsweredText]) -> list[Row]:
    encoded = []
    for row in rows:
        token = np.frombuffer(row.text.encode(), np.uint8)
        learned = np.zeros(len(token), bool)
        for start, stop in row.answers:
            learned[len(row.text[:start].encode()) : len(row.text[:stop].encode())] = True
        first = np.arange(len(token))
        encoded.append((token, learned, np.stack([first, first + 1], 1)))
    return encoded


def _encode(rows: Sequence[AnsweredText], tokenizer: Tokenizer, special: bool, places: bool) -> list[Row]:
    library, encoded = tokenizer.library, []
    library.no_truncation()
    texts = library.encode_batch([row.text for row in rows], add_special_tokens=special)
    for row, text in zip(rows, texts, strict=True):
        starts, stops = np.array(text.offsets, np.int64).reshape(-1, 2).T
        is_added = np.array([sequence is None for sequence in text.sequence_ids], bool)
        learned = np.zeros(len(text.ids), bool)
        for start, stop in row.answers:
            learned |= (stops > start) & (starts < stop) & ~is_added
        if learned.any() and row.answers[-1][1] == len(row.text):
            learned |= is_added & (np.arange(len(learned)) > np.flatnonzero(learned)[-1])
        parts = find_bytes(tokenizer, text, row.text) if places else np.full((len(learned), 2), -1)
        encoded.append((np.array(text.ids, np.int32), learned, parts))
    return encoded


def join_answers(prompts: Sequence[str], answers: Sequence[str], end: str) -> Sequence[AnsweredText]:
    """Returns prompts with their answers, each of which `end` follows."""

    def make(prompt: str, answer: str) -> AnsweredText:
        return AnsweredText(prompt + answer + end, ((len(prompt), len(prompt + answer + end)),))

    return MadeValues(lambda row: make(prompts[row], answers[row]), len(prompts))
