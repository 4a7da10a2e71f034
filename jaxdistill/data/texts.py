"""Texts as tokens: one long text in windows, a byte a token, and texts that are tokens already."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, Split, check_whole, class_names
from jaxdistill.errors import UserError, check_least

BYTES = 256
"""The vocabulary of a text that is read byte by byte."""

PARTS = {"train": "[:90%]", "validation": "[90%:95%]", "test": "[95%:]"}
"""The splits of a file for which none are named, in shares of its bytes."""

LINES = 6000
"""Sums in the embedded text."""


@dataclasses.dataclass(frozen=True)
class Windows(Split):
    """A text, uint8 `[bytes]`, in windows of `length` bytes, each of which is a token.

    Window i has the bytes from `i (length - 1)` on: it begins with the last byte of the window before it, so that every
    byte but the first is to be predicted exactly once in a pass. What does not fill a window at the end is left out.
    """

    text: np.ndarray
    length: int

    def __len__(self):
        return max(len(self.text) - 1, 0) // (self.length - 1)

    def take(self, places):
        at = np.asarray(places)[:, None] * (self.length - 1) + np.arange(self.length)[None]
        return {"tokens": self.text[at].astype(np.int32), "label": np.full(len(at), UNLABELLED, np.int32)}

    def labels(self):
        return np.full(len(self), UNLABELLED, np.int32)


@dataclasses.dataclass(frozen=True)
class Texts(Split):
    """Texts held in memory: tokens int32 `[n, length]`, labels int32 `[n]`, and where there is padding its mask."""

    tokens: np.ndarray
    label: np.ndarray
    token_mask: np.ndarray | None = None

    def __len__(self):
        return len(self.label)

    def take(self, places):
        padded = {} if self.token_mask is None else {"token_mask": self.token_mask[places]}
        return {"tokens": self.tokens[places], "label": self.label[places]} | padded

    def labels(self):
        return self.label


def windows(name: str, splits: Mapping[str, bytes | np.ndarray], length: int) -> Dataset:
    """Makes a dataset of a text for each role, without labels.

    Raises:
        UserError: where the length is not told, or a split does not fill a window.
    """
    if not length:
        raise UserError(f"{name!r} is a text; set data.length, the tokens of a window of it, say data.length=128")
    check_least("data.length", length, 2)
    found = {}
    for role, text in splits.items():
        found[role] = Windows(np.frombuffer(text, np.uint8) if isinstance(text, bytes) else text, length)
        if not len(found[role]):
            raise UserError(
                f"the {role} split of {name!r} has {len(text)} bytes, less than a window of data.length={length}; take"
                " a smaller length, or a larger part in data.splits"
            )
    return Dataset(found, (), (length,), BYTES, of_bytes=True)


def file(path: str, length: int, splits: Mapping[str, str] | None) -> Dataset:
    """Any file, whatever its encoding, byte by byte.

    Args:
        splits: role -> part, `"[:90%]"`, `"[90%:95%]"` or `"[95%:]"`, in shares of the bytes; `None` for these.

    Raises:
        UserError: for a file that is not there, and a part that cannot be read.
    """
    if not path or not pathlib.Path(path).expanduser().is_file():
        raise UserError(f"no file {path!r}; data.path names the text, a file of any encoding")
    if not pathlib.Path(path).expanduser().stat().st_size:
        raise UserError(f"{path} is empty; data.path names the text")
    text = np.memmap(pathlib.Path(path).expanduser(), np.uint8, "r")
    parts = {role: _part(role, part, len(text)) for role, part in (splits or PARTS).items() if part}
    return windows(path, {role: text[part] for role, part in parts.items()}, length)


def _part(role: str, part: str, size: int) -> slice:
    found = re.fullmatch(r"\[(?:(\d+)%)?:(?:(\d+)%)?\]", part)
    start, stop = (int(found[1] or 0), int(found[2] or 100)) if found else (0, 0)
    if not start < stop <= 100:
        raise UserError(
            f"data.splits.{role}={part!r} is no part of a text; it is like '[:90%]', '[90%:95%]' or '[95%:]'"
        )
    return slice(size * start // 100, size * stop // 100)


def arithmetic(length: int) -> Dataset:
    """Sums of two numbers below 100, a line each, as `37+85=122`: a text that needs no file, for trying things out.

    The lines are drawn by NumPy's legacy generator, whose stream is frozen across versions; 80 % are to train on, 10 %
    to validate and 10 % to test on, none of whose bytes are shared.
    """
    return windows("arithmetic", _sums(), length)


@functools.cache
def _sums() -> dict[str, bytes]:
    drawn = np.random.RandomState(0).randint(0, 100, (LINES, 2))
    parts = {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}
    rows = {role: drawn[round(start * LINES) : round(stop * LINES)] for role, (start, stop) in parts.items()}
    return {role: b"".join(b"%d+%d=%d\n" % (a, b, a + b) for a, b in part) for role, part in rows.items()}


def arrays(path: str, found: Mapping[str, np.ndarray]) -> Dataset:
    """Texts that are tokens already: the arrays of an `.npz`.

    `train_tokens` are whole numbers `[n, length]`; `train_token_mask`, above 0 for tokens and 0 for padding, and
    `train_label` `[n]` may be left out, of all splits; so may `vocabulary`, one number, which is else one more than the
    largest token. The same names with `validation` and `test`; `class_names` as of images.

    Raises:
        UserError: for arrays that do not fit each other or are no tokens.
    """
    if any(name.endswith("_image") for name in found):
        raise UserError(f"{path} has images and tokens; a set is of one of them: {sorted(found)}")
    roles = [name.removesuffix("_tokens") for name in found if name.endswith("_tokens")]
    for kind in ("label", "token_mask"):
        having = [role for role in roles if f"{role}_{kind}" in found]
        if having and having != roles:
            raise UserError(f"{path} has a {kind} for {having} and not for the others of {roles}")
    splits = {role: _checked(path, role, found) for role in roles}
    lengths = {role: split.tokens.shape[1] for role, split in splits.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"the splits of {path} have texts of different lengths: {lengths}")
    largest = max(int(split.tokens.max()) for split in splits.values())
    vocabulary = found.get("vocabulary", np.array(largest + 1))
    if vocabulary.shape or not np.issubdtype(vocabulary.dtype, np.integer) or vocabulary <= largest:
        raise UserError(f"{path}: vocabulary={vocabulary}; it is one whole number, above the largest token {largest}")
    labelled = "train_label" in found
    names = class_names(path, found, {role: split.label for role, split in splits.items()}) if labelled else ()
    return Dataset(splits, names, (lengths["train"],), int(vocabulary))


def _checked(path: str, role: str, found: Mapping[str, np.ndarray]) -> Texts:
    tokens, what = found[f"{role}_tokens"], f"{path}: '{role}_tokens'"
    if tokens.ndim != 2 or not tokens.size:
        raise UserError(f"{what} has shape {tokens.shape}; expected [n, length], n > 0")
    mask = found.get(f"{role}_token_mask")
    if mask is not None:
        if mask.shape != tokens.shape:
            raise UserError(f"{path}: '{role}_token_mask' has shape {mask.shape} and the tokens {tokens.shape}")
        mask = (mask > 0).astype(np.int32)
        tokens = np.where(mask > 0, tokens, np.zeros((), tokens.dtype))  # what stands for padding may be no token
    check_whole(what, tokens, "tokens")
    label = found.get(f"{role}_label", np.full(len(tokens), UNLABELLED, np.int32))
    if label.shape != tokens.shape[:1]:
        raise UserError(f"{path}: '{role}_label' has shape {label.shape}, and there are {len(tokens)} texts")
    if f"{role}_label" in found:
        check_whole(f"{path}: '{role}_label'", label, "labels")
    return Texts(tokens.astype(np.int32), label.astype(np.int32), mask)
