"""The section of the report about the cost of the networks: quality over bytes, and the conditions."""

from collections.abc import Mapping
from typing import Any

from jaxdistill.report import figures
from jaxdistill.report.html import Block, Definitions, Figures, Note
from jaxdistill.report.quality import MAXIMISED, MEASURES, choose_final
from jaxdistill.report.tables import TITLES, Rows

MEANINGS = {
    "parameters": "numbers that are trained",
    "nonzero": "those that are not 0 as the network is called",
    "bytes": "all arrays of the network in a file, in the form that it is called in; without a header",
    "flops": "operations of matrix products and convolutions for one example, two for a multiplication and an addition",
    "memory": "temporary buffers of the program compiled for one example",
    "latency_ms": "time of one example, the median over rounds in which the networks take turns",
    "throughput": "examples a second in a batch of 64, the median over such rounds",
}


def describe(rows: Rows, evaluation: Mapping[str, Any], figure: str | None) -> list[Block]:
    """Returns the blocks of the section: the figure of `draw`, the meanings of the columns, the conditions of times."""
    blocks: list[Block] = []
    if figure:
        blocks += [Note("The line joins the networks that no smaller one matches."), Figures([figure], "single")]
    present = {TITLES.get(key, key): text for key, text in MEANINGS.items() if any(key in row for row in rows)}
    if "bytes" in present:
        blocks.append(Definitions(present))
    if conditions := evaluation.get("cost"):
        text = "Times on {device}: {latency_rounds} rounds with a batch of {latency_batch}, {throughput_rounds} with"
        blocks.append(Note((text + " a batch of {throughput_batch}.").format(**conditions)))
    return blocks


def draw(rows: Rows, evaluation: Mapping[str, Any]) -> str | None:
    """Draws accuracy, NLL or RMSE over bytes; None for fewer than two networks with both."""
    measure = choose_final(rows, evaluation)
    able = [row for row in rows if row.get("bytes") and row.get(measure) is not None]
    points = {row["network"]: (row["bytes"], row[measure]) for row in able}
    if len(points) < 2:
        return None
    title, better = MEASURES[measure], "max" if measure in MAXIMISED else "min"
    return figures.draw_pareto({"": points}, f"{title} over bytes of every network", x="bytes", y=title, better=better)
