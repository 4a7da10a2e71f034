"""The final table of a run as text: for a terminal, for Markdown, and number by number for the report."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]

TITLES = {"flops": "FLOPs"}


def columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(["network", "parameters", "flops", *(name for row in rows for name in row)]))


def number(column: str, value: Any) -> str:
    """Writes 78042 parameters as `78,042`, 1.2e6 FLOPs as `1.2 M`, a share as `0.9722`, None as `-`."""
    if value is None:
        return "-"
    if column == "flops":
        for size, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
            if value >= 0.99995 * size:
                return f"{value / size:.1f}{prefix}"
    if isinstance(value, float) and not (column == "flops" and value.is_integer()):
        return f"{value:.4f}"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)


def plus_minus(values: Sequence[float | None]) -> str:
    """Writes the mean of several runs and, after ±, their standard deviation (n - 1)."""
    if None in values:
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def cells(rows: Rows) -> list[list[str]]:
    """Returns the table's lines of text, the first its head."""
    names = columns(rows)
    head = [TITLES.get(name, name) for name in names]
    return [head, *([number(name, row.get(name)) for name in names] for row in rows)]


def plain(rows: Rows) -> str:
    """Returns the rows as aligned plain text, for a terminal."""
    lines = cells(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pads = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    padded = ([pad(text, width) for pad, text, width in zip(pads, line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line) for line in padded)


def markdown(rows: Rows) -> str:
    """Returns the rows as a table of Markdown, for a README."""
    head, *body = [[text.replace("|", "\\|") for text in line] for line in cells(rows)]
    rule = [":--", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))
