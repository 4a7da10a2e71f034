"""Any file as a text: byte by byte, whatever its encoding, or by a tokenizer."""

import numpy as np

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.overlaps import check_slices
from jaxdistill.data.texts import PARTS, make_windows, slice_of
from jaxdistill.data.tokenizers import Tokenizer, open_tokenizer
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

BLOCK = 1 << 20
"""Characters from which on the next line begins a block: a block becomes tokens by itself."""


def read(settings: DatasetSettings) -> Dataset:
    """Returns the windows of the file `path`; `splits` are parts such as `"[:90%]"`, by default `PARTS`.

    With a `tokenizer` the file is UTF-8, a part begins with its first whole character, and no special tokens are added.

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
    tokens = {role: encode(decode(text, part, settings.path), tokenizer) for role, part in parts.items()}
    identity, vocabulary = tokenizer.identity, tokenizer.vocabulary
    return make_windows(settings.path, tokens, settings.length, vocabulary=vocabulary, tokenizer=identity)


def decode(text: np.ndarray, part: slice, path: str) -> str:
    """Returns a part of a text, uint8 `[bytes]`, from its first whole character to its last.

    Raises:
        UserError: if it is not UTF-8.
    """

    def begin(place: int) -> int:
        while place < len(text) and text[place] & 0xC0 == 0x80:  # bytes of a character after its first
            place += 1
        return place

    start, stop = begin(part.start), begin(part.stop)
    try:
        return text[start:stop].tobytes().decode("utf-8")
    except UnicodeDecodeError as error:
        place = start + error.start
        line = np.count_nonzero(text[:place] == ord("\n")) + 1
        raise UserError(
            f"{path} must be UTF-8 with data.tokenizer, got the byte {text[place]:#04x} in line {line}. Convert it, for"
            " example: iconv -f WINDOWS-1252 -t UTF-8; or leave the tokenizer out"
        ) from error


def encode(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """Returns the tokens of a text without special ones, int32 `[tokens]`."""
    library, blocks, start = tokenizer.library, [], 0
    library.no_truncation()
    while start < len(text):
        end = text.find("\n", start + BLOCK) + 1 or len(text)
        blocks.append(library.encode(text[start:end], add_special_tokens=False).ids)
        start = end
    return np.concatenate([np.array(block, np.int32) for block in blocks] or [np.zeros(0, np.int32)])
