"""Splits of files, of which no two may have an example in common."""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdistill.errors import UserError

Files = Sequence[tuple[pathlib.Path, int]]
"""Files, or folders of a set, with their numbers of examples, in order."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """The examples of a split.

    Attributes:
        text: of the config, such as `"a.csv[:80%]"`.
        files: that follow each other.
        rows: the positions of the examples in them, int `[n]`.
    """

    text: str
    files: Files
    rows: np.ndarray


def check_disjoint(choices: Mapping[str, Choice]) -> None:
    """Raises `UserError` for the first two roles with an example in common."""
    texts = {role: choice.text for role, choice in choices.items()}
    by_file: dict[pathlib.Path, dict[str, np.ndarray]] = collections.defaultdict(dict)
    for role, choice in choices.items():
        stops = np.cumsum([count for _, count in choice.files])
        rows = np.sort(choice.rows)
        parts = np.split(rows, np.searchsorted(rows, stops[:-1]))
        for (file, count), stop, part in zip(choice.files, stops, parts, strict=True):
            by_file[file.resolve()][role] = part - (stop - count)
    for file, roles in by_file.items():
        for first, second in itertools.combinations(roles, 2):
            common = np.intersect1d(roles[first], roles[second], assume_unique=True)
            if len(common):
                raise _overlap(texts, first, second, f"{len(common):,} of {file}")


def check_slices(texts: Mapping[str, str], slices: Mapping[str, slice]) -> None:
    """Raises `UserError` for the first two roles whose slices of a file overlap."""
    for first, second in itertools.combinations(slices, 2):
        start = max(slices[first].start, slices[second].start)
        common = min(slices[first].stop, slices[second].stop) - start
        if common > 0:
            raise _overlap(texts, first, second, f"{common:,} bytes")


def _overlap(texts: Mapping[str, str], first: str, second: str, common: str) -> UserError:
    return UserError(
        f"data.splits.{first}={texts[first]!r} and data.splits.{second}={texts[second]!r} must have no example in"
        f" common, got {common}. Take parts such as '[:80%]' and '[80%:]', or other files"
    )
