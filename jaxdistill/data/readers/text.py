"""Any file as a text: byte by byte, whatever its encoding, or by a tokenizer."""

import codecs
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.overlaps import check_slices
from jaxdistill.data.spilled import ArrayWriter
from jaxdistill.data.texts import PARTS, make_windows, slice_of
from jaxdistill.data.tokenizers import Tokenizer, open_tokenizer
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

BLOCK = 1 << 20
"""Characters from which on the next line begins a block: a block becomes tokens by itself."""

TOGETHER = 2
"""Blocks that become tokens at once, by as many threads: each takes about 100 MB."""


def read(settings: DatasetSettings) -> Dataset:
    """Returns the windows of the file `path`; `splits` are parts such as `"[:90%]"`, by default `PARTS`.

    The file is mapped, and so are its tokens if they are large. With a `tokenizer` it is UTF-8, a part begins with its
    first whole character, and no special tokens are added.

    Raises:
        UserError: for a missing file, another encoding, a part that cannot be read, and parts that overlap.
    """
    path = files.input_path("data.path", settings.path)
    if not settings.path or not path.is_file():
        raise UserError(f"data.path must be a file of text in any encoding, got no file {settings.path!r}")
    if not path.stat().st_size:
        raise UserError(f"data.path must be a file with text, got {settings.path}, which is empty")
    text = np.memmap(path, np.uint8, "r")
    named = {role: part for role, part in (dict(settings.splits) or PARTS).items() if part}
    parts = {role: slice_of(role, part, len(text)) for role, part in named.items()}
    check_slices(named, parts)
    if not settings.tokenizer:
        return make_windows(settings.path, {role: text[part] for role, part in parts.items()}, settings.length)
    tokenizer = open_tokenizer(settings.tokenizer)
    tokens = {role: encode(iterate_blocks(text, part, settings.path), tokenizer) for role, part in parts.items()}
    identity, vocabulary = tokenizer.identity, tokenizer.vocabulary
    return make_windows(settings.path, tokens, settings.length, vocabulary=vocabulary, tokenizer=identity)


def iterate_blocks(text: np.ndarray, part: slice, path: str) -> Iterator[str]:
    """Yields a part of a text, uint8 `[bytes]`, from its first whole character to its last, in blocks of lines.

    A block ends behind the first line feed that follows `BLOCK` characters.

    Raises:
        UserError: if it is not UTF-8.
    """
    start, stop = _begin(text, part.start), _begin(text, part.stop)
    decoder = codecs.getincrementaldecoder("utf-8")()
    pending, searched = "", 0
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        before = len(decoder.getstate()[0])  # bytes of a character that the earlier piece began
        try:
            pending += decoder.decode(text[first:last].tobytes(), final=last == stop)
        except UnicodeDecodeError as error:
            raise _refuse(text, first - before + error.start, path, error) from error
        while (end := pending.find("\n", max(BLOCK, searched)) + 1) > 0:
            yield pending[:end]
            pending, searched = pending[end:], 0
        searched = len(pending)
    if pending:
        yield pending


def _begin(text: np.ndarray, place: int) -> int:
    while place < len(text) and text[place] & 0xC0 == 0x80:  # bytes of a character after its first
        place += 1
    return place


def _refuse(text: np.ndarray, place: int, path: str, error: UnicodeDecodeError) -> UserError:
    starts = range(0, place, BLOCK)
    line = sum(np.count_nonzero(text[first : min(first + BLOCK, place)] == ord("\n")) for first in starts) + 1
    return UserError(
        f"{path} must be UTF-8 with data.tokenizer, got the byte {text[place]:#04x} in line {line}. Convert it, for"
        " example: iconv -f WINDOWS-1252 -t UTF-8; or leave the tokenizer out"
    )


def encode(blocks: Iterable[str], tokenizer: Tokenizer) -> np.ndarray:
    """Returns the tokens of the blocks of a text without special ones, int32 `[tokens]`."""
    library, writer, rest = tokenizer.library, ArrayWriter(), iter(blocks)
    library.no_truncation()
    writer.append(np.zeros(0, np.int32))
    while batch := [*itertools.islice(rest, TOGETHER)]:
        for encoded in library.encode_batch_fast(batch, add_special_tokens=False):
            writer.append(np.array(encoded.ids, np.int32))
    return writer.finish()
