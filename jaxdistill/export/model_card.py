"""The model card of an exported network, made from the files of its run."""

from collections.abc import Mapping
from typing import Any

from jaxdistill.export.exported import Exported

LICENSE = "license: other  # set the licence; it depends on those of the data and of the teacher's weights"


def write_card(exported: Exported) -> str:
    """Returns the page `README.md`: facts of the run, and the table of its results."""
    is_distilled = exported.facts.get("Teacher", "none") != "none"
    tags = f"tags: [{'knowledge-distillation, ' * is_distilled}jaxdistill]"
    front = ["---", "library_name: transformers", LICENSE, tags, "---", ""]
    lines = [
        f"# {exported.name}",
        "",
        f"Trained {'by knowledge distillation ' * is_distilled}with jaxdistill.",
        "",
        "| | |",
        "| --- | --- |",
    ]
    lines += [f"| {title} | {value} |" for title, value in exported.facts.items()]
    if exported.results:
        lines += ["", "## Results", "", *_table(exported.results)]
    return "\n".join([*front, *lines, ""])


def _table(rows: tuple[Mapping[str, Any], ...]) -> list[str]:
    keys = [key for key, value in rows[0].items() if isinstance(value, str | int | float)]
    cells = [[_shown(row.get(key)) for key in keys] for row in rows]
    return [f"| {' | '.join(line)} |" for line in ([*keys], ["---"] * len(keys), *cells)]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value if value is not None else "not measured")
