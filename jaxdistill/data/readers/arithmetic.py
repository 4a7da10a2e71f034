"""Sums of two numbers below 100, a line each, as `37+85=122`: an embedded text for trying things out."""

import functools

import numpy as np

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.texts import make_windows

LINES = 6000
"""Number of sums."""


def read(settings: DatasetSettings) -> Dataset:
    """Returns the text byte by byte: 80 % of the lines for training, 10 % for validation, 10 % for testing.

    The lines are drawn by NumPy's legacy generator, whose stream is frozen across versions; splits share no byte.
    """
    settings.check_no_path()
    settings.check_no_splits()
    return make_windows("arithmetic", _write_lines(), settings.length)


@functools.cache
def _write_lines() -> dict[str, bytes]:
    numbers = np.random.RandomState(0).randint(0, 100, (LINES, 2))
    parts = {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}
    rows = {role: numbers[round(start * LINES) : round(stop * LINES)] for role, (start, stop) in parts.items()}
    return {role: b"".join(b"%d+%d=%d\n" % (a, b, a + b) for a, b in part) for role, part in rows.items()}
