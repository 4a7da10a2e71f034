"""Tables as text, Markdown and HTML, and the numbers in their cells."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from jaxdistill.report.template import load_template

Rows = Sequence[Mapping[str, Any]]
"""Rows of results, `{column: value}` each."""

COSTS = ("parameters", "nonzero", "bytes", "flops", "memory", "latency_ms", "throughput")
"""Columns of the cost of a network, in order."""

TITLES = {
    "nonzero": "non-zero",
    "flops": "FLOPs",
    "memory": "memory (bytes)",
    "latency_ms": "latency (ms)",
    "throughput": "examples/s",
}

PREFIXED = ("bytes", "flops", "memory")
"""Columns whose numbers are written with a prefix: 1.2 M."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """The text of a cell, with its marks on a page: the best of its column, or a label beside the text."""

    text: str
    best: bool = False
    label: str = ""

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text, computed once and rendered in three forms.

    Attributes:
        columns: the titles.
        rows: a cell for every column; the first names its row.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]

    def to_text(self) -> str:
        """Returns aligned plain text, for a terminal."""
        lines = [list(self.columns), *([str(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        pads = [str.ljust, *[str.rjust] * (len(widths) - 1)]
        padded = ([pad(text, width) for pad, text, width in zip(pads, line, widths, strict=True)] for line in lines)
        return "\n".join("  ".join(line) for line in padded)

    def to_markdown(self) -> str:
        """Returns a Markdown table, for a README."""
        lines = [[str(cell).replace("|", "\\|") for cell in row] for row in (self.columns, *self.rows)]
        rule = [":--", *("--:" for _ in self.columns[1:])]
        return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))

    def to_html(self) -> str:
        """Returns an HTML table, for the report."""
        return str(load_template().module.table(self))


def list_columns(rows: Rows) -> list[str]:
    """Returns every column of the rows, the network and its cost first."""
    names = dict.fromkeys(["parameters", "flops", *(name for row in rows for name in row)])
    labels = ["network", *(name for name in ("evaluation", "split") if name in names)]
    costs = [name for name in COSTS if name in names]
    return [*labels, *costs, *(name for name in names if name not in (*labels, *costs))]


def select_main(rows: Rows) -> Rows:
    """Returns the rows of the last evaluation of a run, which is that of its page."""
    return [row for row in rows if row.get("evaluation") == rows[-1].get("evaluation")]


def find_parts(columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns the columns `METRIC:VALUE`, of the examples with a value of `data.route`, with their metric and value."""
    metrics = sorted(columns, key=len)
    return {
        name: (metric, name.removeprefix(f"{metric}:"))
        for name in columns
        for metric in metrics
        if name.startswith(f"{metric}:")
    }


def list_main_columns(rows: Rows) -> list[str]:
    """Returns the columns of the final table: all but those of parts."""
    columns = list_columns(rows)
    parts = find_parts(columns)
    return [name for name in columns if name not in parts]


def make_results_table(rows: Rows) -> Table:
    """Makes the final table of a run, one row for each network."""
    names = list_main_columns(rows)
    body = [[format_value(row.get(name), name) for name in names] for row in rows]
    return Table([TITLES.get(name, name) for name in names], body)


def make_parts_table(
    rows: Rows,
    column: str = "route",
    examples: Mapping[str, int] | None = None,
    labels: Sequence[str] = ("network", "evaluation", "split"),
) -> Table | None:
    """Makes the table of the parts by `data.route`, one row for each row and value; `None` without parts.

    Args:
        rows: of results.
        column: that the values are of.
        examples: by value.
        labels: columns that name a row; those that no row has are left out.
    """
    columns = list_columns(rows)
    parts = find_parts(columns)
    metrics, values = (list(dict.fromkeys(pair[side] for pair in parts.values())) for side in (0, 1))
    labels = [name for name in labels if name in columns]
    counts = ["examples"] if examples else []
    body = [
        [
            *(format_value(row.get(name)) for name in labels),
            value,
            *(format_value((examples or {}).get(value)) for _ in counts),
            *(format_value(row.get(f"{metric}:{value}")) for metric in metrics),
        ]
        for row in rows
        for value in values
        if any(f"{metric}:{value}" in row for metric in metrics)
    ]
    return Table([*labels, column, *counts, *metrics], body) if parts else None


def format_value(value: Any, column: str = "") -> str:
    """Writes 78042 parameters as `78,042`, 1.2e6 FLOPs or bytes as `1.2 M`, 0.97222 as `0.9722`, None as `-`."""
    if value is None:
        return "-"
    if column in PREFIXED:
        for size, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
            if value >= 0.99995 * size:
                return f"{value / size:.1f}{prefix}"
    if column == "throughput":
        return f"{value:,.0f}"
    if column == "learning rate":
        return f"{value:.4g}"
    if isinstance(value, float) and not (column in PREFIXED and value.is_integer()):
        return f"{value:.4f}"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)


def format_mean(values: Sequence[float | None]) -> str:
    """Writes the mean of several runs and, after ±, their standard deviation (n - 1); `-` if a value is missing."""
    if None in values:
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"
