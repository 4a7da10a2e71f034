"""Spans of bytes that the tokens of two tokenizers share: the alignment of a text's tokens with other ones.

A span goes from one place where tokens of both tokenizers end to the next one, so that each side writes its bytes with
whole tokens. Places are counted from the beginning of each answer, which has the same bytes on both sides whatever the
prompts are. The first span of an answer begins at its first byte if both sides have a token that begins there, else at
the first place where both end. Tokens behind the last common place, and those of prompts, are of no span.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdistill.data.chats import AnsweredText
from jaxdistill.data.spellings import BYTES
from jaxdistill.data.spilled import ArrayWriter
from jaxdistill.data.tokenizers import CHUNK, Tokenizer, Tokens

ANSWER = 1 << 32
"""The distance between the first places of two answers of a text."""


def locate_in_answers(parts: np.ndarray, row: AnsweredText) -> np.ndarray:
    """Returns the first and the last byte of tokens in their answers, int64 `[tokens, 2]`.

    Args:
        parts: the bytes of the text that each token is of, `[tokens, 2]`, -1 for none.
        row: the text.

    Returns:
        Places: the number of the answer times `ANSWER`, and the bytes from its beginning on; -1 for an end outside of
        answers, and for a beginning before its own.
    """
    places = np.full(parts.shape, -1, np.int64)
    for number, (start, stop) in enumerate(row.answers):
        first, last = (len(row.text[:position].encode()) for position in (start, stop))
        inside = (parts[:, 1] > first) & (parts[:, 1] <= last)
        places[inside] = parts[inside] - first + number * ANSWER
        places[inside & (parts[:, 0] < first), 0] = -1
    return places


def number_spans(tokens: Mapping[str, Tokens]) -> dict[str, np.ndarray]:
    """Returns the number of each token's span in its text, int32 `[tokens]`, -1 for none, by prefix.

    Args:
        tokens: of the same answers by two tokenizers, with their `bytes`, by the prefix of their fields.
    """
    writers = {prefix: ArrayWriter() for prefix in tokens}
    count = len(next(iter(tokens.values())))
    for first in range(0, count, CHUNK):
        numbers: dict[str, list[np.ndarray]] = {prefix: [] for prefix in tokens}
        for text in range(first, min(first + CHUNK, count)):
            left, right = (_of_text(part, slice(*part.starts[text : text + 2])) for part in tokens.values())
            for prefix, matched in zip(tokens, match(left, right), strict=True):
                numbers[prefix].append(matched)
        for prefix, writer in writers.items():
            writer.append(np.concatenate(numbers[prefix]))
    return {prefix: writer.finish() for prefix, writer in writers.items()}


def _of_text(tokens: Tokens, part: slice) -> np.ndarray:
    assert tokens.bytes is not None
    return tokens.bytes[part]


def match(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of the spans of one text's tokens on both sides, from 0 on, -1 for none.

    Args:
        left, right: places of the tokens, int64 `[tokens, 2]` (`locate_in_answers`).
    """
    common = np.intersect1d(_boundaries(left), _boundaries(right))

    def number(places: np.ndarray) -> np.ndarray:
        # The span of a token ends at the first common place that is not before the token's own end.
        place = np.searchsorted(common, places[:, 1])
        padded = np.append(common, -1)
        same_answer = padded[np.maximum(place, 1) - 1] // ANSWER == padded[place] // ANSWER
        is_of_span = (places[:, 1] >= 0) & (place > 0) & (place < len(common)) & same_answer
        return np.where(is_of_span, place, -1)

    numbers = number(left), number(right)
    present = np.unique(np.concatenate(numbers))
    present = present[present >= 0]
    return tuple(np.where(x >= 0, np.searchsorted(present, x), -1).astype(np.int32) for x in numbers)  # type: ignore


def _boundaries(places: np.ndarray) -> np.ndarray:
    """Returns the places where tokens end, and the first places of answers that a token begins at."""
    begins, ends = places[places[:, 1] >= 0].T
    answer = ends // ANSWER
    is_first = np.diff(answer, prepend=-1) != 0
    # Bytes before the first token of an answer, such as a space that a tokenizer drops, are of no token.
    firsts = answer[is_first & (begins >= 0)] * ANSWER
    return np.concatenate([ends, firsts])


def find_bytes(tokenizer: Tokenizer, text: Any, raw: str) -> np.ndarray:
    """Returns the bytes of a text that each of its tokens is of, int64 `[tokens, 2]`, -1 for special tokens.

    Those of a byte-level tokenizer follow from the tokens, since a character may be of several; others are those of the
    characters that the library gives, which tokens of single bytes share out.

    Args:
        tokenizer: that has encoded the text.
        text: the library's encoding of it.
        raw: the text.
    """
    is_added = np.array([sequence is None for sequence in text.sequence_ids], bool)
    ids = np.array(text.ids, np.int64)
    if tokenizer.is_byte_level:
        written = [tokenizer.written[token] or b"" for token in ids[~is_added]]
        encoded, joined = raw.encode(), b"".join(written)
        # A space may be put before the text; counts cannot show one that is behind a special token.
        if joined in (encoded, b" " + encoded):
            ends = np.cumsum(np.where(is_added, 0, tokenizer.byte_counts[ids]))
            ends = np.maximum(ends - (len(joined) - len(encoded)), 0)
            parts = np.stack([np.concatenate([[0], ends[:-1]]), ends], 1)
            return np.where(is_added[:, None], -1, parts)
    byte = np.concatenate([[0], np.cumsum([len(character.encode("utf-8", "replace")) for character in raw])])
    parts = byte[np.array(text.offsets, np.int64).reshape(-1, 2)]
    _share_out(parts, tokenizer.byte_counts[ids] == 1)
    return np.where(is_added[:, None], -1, parts)


def _share_out(parts: np.ndarray, is_byte: np.ndarray) -> None:
    """Gives each of several tokens of one byte, that share the bytes of one character, its own."""
    first = 0
    while first < len(parts):
        last = first
        while last + 1 < len(parts) and (parts[last + 1] == parts[first]).all():
            last += 1
        count = last + 1 - first
        if count > 1 and count == parts[first, 1] - parts[first, 0] and is_byte[first : last + 1].all():
            begins = parts[first, 0] + np.arange(count)
            parts[first : last + 1] = np.stack([begins, begins + 1], 1)
        first = last + 1


def match_spellings(student: Tokenizer | None, teacher: Tokenizer | None) -> np.ndarray:
    """Returns the teacher's token of the same bytes for each token of the student, int32 `[vocabulary]`, -1 for none.

    Args:
        student, teacher: `None` for the bytes of UTF-8.
    """
    left, right = (_spellings(tokenizer) for tokenizer in (student, teacher))
    if left == right:
        return np.arange(len(left), dtype=np.int32)
    tokens: dict[Any, int] = {}
    for token, spelling in enumerate(right):
        if spelling is not None:
            tokens.setdefault(spelling, token)
    return np.array([tokens.get(spelling, -1) for spelling in left], np.int32)


def _spellings(tokenizer: Tokenizer | None) -> list[Any]:
    return [bytes([byte]) for byte in range(BYTES)] if tokenizer is None else tokenizer.spellings
