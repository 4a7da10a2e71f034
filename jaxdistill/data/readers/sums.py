"""Sums with their answers, `37+85=` and `122\\n`: embedded prompts whose answers can be checked."""

import functools

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.texts import BYTES, Texts
from jaxdistill.errors import check_least

LENGTH = len("99+99=198\n")
"""Tokens of the longest sum with its answer."""

PARTS = {"train": (0, 7000), "validation": (7000, 8500), "test": (8500, 10000)}
"""The pairs of each split, of all 10,000 in a random order: no pair is in two."""


def read(settings: DatasetSettings) -> Dataset:
    """Returns the sums of all pairs of numbers below 100, a byte a token; only the answer is to be learned.

    The order of the pairs is drawn by NumPy's legacy generator, whose stream is frozen across versions.

    Raises:
        UserError: for a length without room for a sum.
    """
    settings.check_no_path()
    settings.check_no_splits()
    length = settings.length or LENGTH
    check_least("data.length", length, LENGTH)
    splits = {role: _make_split(pairs, length) for role, pairs in _draw_pairs().items()}
    return Dataset(splits, (), (length,), BYTES, of_bytes=True, tokenizer="bytes")


def _make_split(pairs: np.ndarray, length: int) -> Texts:
    prompts = [b"%d+%d=" % (a, b) for a, b in pairs]
    answers = [b"%d\n" % (a + b) for a, b in pairs]
    rows = [np.frombuffer(prompt + answer, np.uint8) for prompt, answer in zip(prompts, answers, strict=True)]
    tokens = np.zeros((len(rows), length), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    place = np.arange(length)[None]
    ends, starts = (np.array([len(x) for x in texts])[:, None] for texts in (rows, prompts))
    token_mask = (place < ends).astype(np.int32)
    masks = {"token_mask": token_mask, "answer_mask": token_mask * (place >= starts)}
    return Texts(tokens, np.full(len(rows), UNLABELLED, np.int32), masks)


@functools.cache
def _draw_pairs() -> dict[str, np.ndarray]:
    pairs = np.stack(np.divmod(np.random.RandomState(0).permutation(100 * 100), 100), -1)
    return {role: pairs[start:stop] for role, (start, stop) in PARTS.items()}
