"""Results of the benchmarks: `docs/results/NAME.json`, and the tables of the pages that are made of them.

    python benchmarks/results.py

fills the pages. A file of results is

    {"command", "commit", "date", "device", "rows": [{"name", METRIC: {"mean", "std", "n"} or a number}, ...]}

A row may have texts as well, and a "table", the title of the table that it belongs to. Optional are "columns", the
titles of the columns by key, in order; "conditions", versions and other facts about the machine; and "gains", keys
whose values are mean differences of pairs, shown with their standard error.

On a page, `<!-- results: NAME.json -->` and `<!-- end -->` enclose all tables of a file with their titles and
conditions, and `<!-- table: NAME.json -->` or `<!-- table: NAME.json, TITLE -->` enclose one table alone.
"""

import datetime
import json
import math
import os
import pathlib
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "results"
PAGES = (
    "README.md",
    "benchmarks/README.md",
    "docs/compression.md",
    "docs/detection.md",
    "docs/guides/weights.md",
    "docs/language_invariance.md",
    "docs/modes.md",
    "docs/on_policy.md",
    "docs/segmentation.md",
    "docs/tables.md",
    "docs/texts.md",
    "docs/token_caches.md",
    "docs/worth.md",
    "docs/tpu.md",
    "docs/vocabulary.md",
    "docs/zoo.md",
)
PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "numpy", "torch", "torchdistill", "transformers", "trl")
NOT_MEASURED = "Not measured yet."
REQUIRED = {"command": str, "commit": str, "date": str, "device": str, "rows": list}
HIDDEN = ("table", "ratio_low", "ratio_high")
"""Keys of a row that have no column: its table, and the quartiles beside the ratio."""

Row = Mapping[str, Any]
Results = Mapping[str, Any]


def describe_machine() -> dict[str, Any]:
    """Returns date, commit and device, and under "conditions" driver, cores, load and versions."""
    import jax

    driver = _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    variables = {name: os.environ[name] for name in ("GLIBC_TUNABLES", "XLA_FLAGS") if os.environ.get(name)}
    conditions = {"processor": _processor(), "cores": len(os.sched_getaffinity(0))}
    conditions |= {"load": round(os.getloadavg()[0], 1)} | ({"driver": driver} if driver else {})
    conditions |= {"python": platform.python_version()} | variables
    return {
        "commit": describe_commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "conditions": conditions | {name: version for name in PACKAGES if (version := _version(name))},
    }


def describe_commit() -> str:
    """Returns the commit, "-dirty" if files differ from it but results, which scripts write row by row."""
    git = ("git", "-C", str(ROOT))
    changed = _run(*git, "diff", "--name-only", "HEAD", "--", ".", f":!{FOLDER.relative_to(ROOT)}")
    return _run(*git, "describe", "--always") + ("-dirty" if changed else "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _run(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _processor() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _command() -> str:
    """Returns the command that runs this process, without where it writes, and with DIR for folders of the machine."""
    script, *words = sys.argv
    path = pathlib.Path(script).resolve()
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    command = re.sub(r" --write[ =]\S+", "", shlex.join(["python", name, *words]))
    return re.sub(r"(?<=[ =])/\S+", "DIR", command)


def write(
    path: pathlib.Path | None,
    tables: Mapping[str, Sequence[Row]],
    *,
    columns: Mapping[str, str] | None = None,
    gains: Sequence[str] = (),
    **facts: str | float,
) -> None:
    """Prints tables, and writes them as a file of results if there is a path.

    Args:
        path: a `.json`, usually in `docs/results`.
        tables: `{title: rows}`; the title "" is that of an only table.
        columns: titles of the columns by key, in order.
        gains: keys of mean differences of pairs.
        facts: further conditions.
    """
    machine = describe_machine()
    machine["conditions"] |= facts
    rows = [({"table": title} if title else {}) | dict(row) for title, of_table in tables.items() for row in of_table]
    options = ({"columns": dict(columns)} if columns else {}) | ({"gains": list(gains)} if gains else {})
    results = {"command": _command()} | machine | options | {"rows": rows}
    check(results)
    print(f"\n{render(results)}", flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def read(path: pathlib.Path) -> Results:
    """Reads and checks a file of results."""
    results = json.loads(path.read_text())
    check(results)
    return results


def check(results: Results) -> None:
    """Raises `ValueError` for results of another form."""
    for key, kind in REQUIRED.items():
        if not isinstance(results.get(key), kind) or not results[key]:
            raise ValueError(f"{key} of results must be a {kind.__name__} with content, got {results.get(key)!r}")
    for row in results["rows"]:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise ValueError(f"a row of results must have a name, got {row!r}")
        for key, value in row.items():
            spread = isinstance(value, dict) and set(value) == {"mean", "std", "n"}
            if not (spread or value is None or isinstance(value, str | int | float)):
                raise ValueError(f"{key} of {row['name']!r} must be a number or mean, std and n, got {value!r}")


def summarize(values: Sequence[float | None]) -> dict[str, float] | None:
    """Returns mean, standard deviation (n - 1) and number of several values; None if one is missing."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    std = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return {"mean": statistics.mean(numbers), "std": std, "n": len(numbers)}


def group_tables(results: Results) -> dict[str, list[Row]]:
    """Returns the rows by the title of their table."""
    tables: dict[str, list[Row]] = {}
    for row in results["rows"]:
        tables.setdefault(row.get("table", ""), []).append(row)
    return tables


def render(results: Results) -> str:
    """Renders all tables of a file with their titles, the command and the conditions."""
    parts = []
    for title, rows in group_tables(results).items():
        parts += ([f"{title}:"] if title else []) + [render_table(rows, results)]
    facts = {key: results[key] for key in ("date", "commit", "device")} | dict(results.get("conditions", {}))
    measured = "; ".join(f"{name} {value}" for name, value in facts.items())
    return "\n\n".join([*parts, f"Measured by `{results['command']}`: {measured}."])


def render_table(rows: Sequence[Row], results: Results) -> str:
    """Renders rows as a Markdown table."""
    columns = results.get("columns") or {key: key for row in rows for key in row if key not in HIDDEN}
    texts = {key for key in columns if any(isinstance(row.get(key), str) for row in rows)}
    lines = [list(columns.values()), ["---" if key in texts else "---:" for key in columns]]
    lines += [[_cell(key, row, results) for key in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(key: str, row: Row, results: Results) -> str:
    value = row.get(key)
    if value is None:
        return "" if key in results.get("gains", ()) else "-"
    if isinstance(value, str):
        text = value.replace("|", "\\|")
        return f"`{text}`" if key == "name" and "columns" in results else text
    if isinstance(value, dict):
        return format_gain(value) if key in results.get("gains", ()) else format_spread(value)
    if key == "ratio" and "ratio_low" in row:
        return f"{value:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"
    if key == "ratio":
        return f"{value:.2f}"
    if key in ("of peak", "utilisation", "earlier_utilisation"):
        return f"{value:.1%}"
    if isinstance(value, int):
        return f"{value:,}"
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:,.{max(0, 2 - int(math.log10(max(abs(value), 1))))}f}"


def format_spread(value: Mapping[str, float]) -> str:
    """Writes mean and standard deviation; the mean alone if there is one value."""
    return f"{value['mean']:.4f} ± {value['std']:.4f}" if value["n"] > 1 else f"{value['mean']:.4f}"


def format_gain(value: Mapping[str, float]) -> str:
    """Writes a mean difference and its standard error, with ", none" if it is within two of these, or ", worse"."""
    if value["n"] < 2:
        return f"{value['mean']:+.4f}"
    error = value["std"] / math.sqrt(value["n"])
    verdict = "" if value["mean"] > 2 * error else ", worse" if value["mean"] < -2 * error else ", none"
    return f"{value['mean']:+.4f} ± {error:.4f}{verdict}"


def fill(text: str, folder: pathlib.Path = FOLDER) -> str:
    """Returns a page with every table made of its file."""

    def replace(match: re.Match) -> str:
        form, name, title = match[1], match[2], match[3] or ""
        path = folder / name
        if not path.exists():
            body = NOT_MEASURED
        elif form == "results":
            body = render(read(path))
        else:
            results = read(path)
            body = render_table(group_tables(results)[title], results)
        return f"{match[0].splitlines()[0]}\n{body}\n<!-- end -->"

    return re.sub(r"<!-- (results|table): ([^\s,]+)(?:, (.+?))? -->\n.*?<!-- end -->", replace, text, flags=re.DOTALL)


def main() -> None:
    for page in PAGES:
        path = ROOT / page
        path.write_text(fill(path.read_text()))


if __name__ == "__main__":
    main()
