"""Compares every compression of a teacher: alone, fine-tuned and distilled, over seeds.

    python benchmarks/compression.py --task digits --workdir runs/compression_digits --seeds 3 \\
        [--write docs/results/compression.json] [--config.KEY=VALUE ...]

Each seed is the ordinary command with `configs/compression.py:TASK` in a process of its own; a finished seed is not
repeated, and seeds share compiled programs. Rows are `TASK/NAME`: mean and standard deviation (n - 1) over seeds of the
last step's weights on the test split; costs are those of the first seed. `gain` is the mean
difference to the same views without the teacher, from the seeds' pairs. A file that has other tasks keeps their rows.
Beside it, `compression_gains.json` has a row for each way of compression; `docs/compression_TASK.svg` is the figure.
`docs/compression.md` is made of them by `benchmarks/results.py`.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import results
import seeds

from jaxdistill.report import figures

CONFIG = "configs/compression.py"
TASKS = ("digits", "mnist", "cifar10", "ag_news", "smoke")
FORMS = ("post", "tuned", "distilled")
COSTS = ("parameters", "nonzero", "bytes", "flops", "memory", "latency_ms", "throughput")
METRICS = ("accuracy", "nll", "agreement")
DRAWN = 0.15
"""The accuracy below the teacher's that a figure reaches down to."""

TITLES = {
    "name": "network",
    "parameters": "parameters",
    "nonzero": "non-zero",
    "bytes": "bytes",
    "flops": "FLOPs",
    "memory": "memory (bytes)",
    "latency_ms": "latency (ms)",
    "throughput": "examples/s",
    "accuracy": "accuracy",
    "gain": "gain by the teacher",
    "nll": "NLL (nats)",
    "agreement": "agreement",
}
GAIN_TITLES = {
    "name": "compression",
    "size": "bytes of the teacher's",
    "post": "without training",
    "tuned": "fine-tuned",
    "distilled": "distilled",
    "gain": "gain by the teacher",
    "recovered": "loss given back",
}


def split_name(name: str) -> tuple[str, str]:
    """Returns the compression of a network and its form, "" for the teacher."""
    stem, _, form = name.rpartition("_")
    return (stem, form) if stem else (name, "")


def make_rows(task: str, runs: Sequence[seeds.Rows]) -> list[dict[str, Any]]:
    """Makes a row for each network of a task."""
    by_name = seeds.group_by_network(runs)
    rows = []
    for name, of_network in by_name.items():
        row = {"name": f"{task}/{name}"} | {key: of_network[0][key] for key in COSTS}
        row |= {key: results.summarize([run[key] for run in of_network]) for key in METRICS}
        stem, form = split_name(name)
        control = by_name.get(f"{stem}_tuned", by_name.get(f"{stem}_alone"))
        if form == "distilled" and control:
            row["gain"] = _subtract(of_network, control)
        rows.append(row)
    return rows


def make_gains(task: str, runs: Sequence[seeds.Rows]) -> list[dict[str, Any]]:
    """Makes a row for each compression: its size, its accuracy in each form, and what distillation gives back.

    `recovered` is the part of the accuracy lost without training that the distilled network has again; None if less
    than a hundredth was lost.
    """
    by_name = seeds.group_by_network(runs)
    teacher = by_name["teacher"]
    rows = []
    for stem in dict.fromkeys(split_name(name)[0] for name in by_name if split_name(name)[1] in FORMS):
        forms = {form: by_name.get(f"{stem}_{form}") for form in FORMS}
        if stem == "small":
            forms["tuned"] = by_name["small_alone"]
        row: dict[str, Any] = {"name": f"{task}/{stem}"}
        row["size"] = forms["distilled"][0]["bytes"] / teacher[0]["bytes"]
        row |= {form: _summarize(of_form) for form, of_form in forms.items() if of_form}
        row["gain"] = _subtract(forms["distilled"], forms["tuned"])
        if forms["post"]:
            lost = _subtract(teacher, forms["post"])["mean"]
            back = _subtract(forms["distilled"], forms["post"])["mean"]
            row["recovered"] = back / lost if lost >= 0.01 else None
        rows.append(row)
    return sorted(rows, key=lambda row: -row["size"])


def _summarize(rows: seeds.Rows) -> dict[str, float] | None:
    return results.summarize([row["accuracy"] for row in rows])


def _subtract(left: seeds.Rows, right: seeds.Rows) -> dict[str, float]:
    """Returns the mean difference of the accuracies of pairs, with its standard deviation."""
    pairs = zip(left, right, strict=True)
    return results.summarize([one["accuracy"] - other["accuracy"] for one, other in pairs])


def draw(task: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Draws accuracy over bytes, a line for each form."""
    series: dict[str, dict[str, tuple[float, float]]] = {form: {} for form in (*FORMS, "from scratch", "teacher")}
    for row in rows:
        name = row["name"].removeprefix(f"{task}/")
        stem, form = split_name(name)
        line = "from scratch" if stem == "small" else form or "teacher"
        series.setdefault(line, {})[stem if form in FORMS else name] = row["bytes"], row["accuracy"]["mean"]
    least = series["teacher"]["teacher"][1] - DRAWN
    shown = {form: points for form, points in series.items() if points}
    label = f"{task}: accuracy over bytes of every compression"
    return figures.draw_pareto(shown, label, x="bytes", y="test accuracy", least=least)


def write_task(path: pathlib.Path | None, task: str, rows: Sequence[results.Row], **options: Any) -> None:
    """Writes a file of results whose rows of other tasks are those that it had, with the conditions of each task."""
    old = results.read(path) if path and path.exists() else {"rows": [], "conditions": {}}
    tables = results.group_tables(old) | {task: rows}
    conditions = {key: value for key, value in old["conditions"].items() if key in TASKS}
    machine = results.describe_machine()
    conditions[task] = f"{machine['date']}, {machine['commit']}, {machine['device']}"
    results.write(
        path, {name: _without_table(tables[name]) for name in TASKS if name in tables}, **options, **conditions
    )


def _without_table(rows: Sequence[results.Row]) -> list[results.Row]:
    return [{key: value for key, value in row.items() if key != "table"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plots", type=pathlib.Path, default=pathlib.Path("docs"))
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()
    shared = f"--config.compilation_cache={(given.workdir / 'compiled').resolve()}"
    config = f"{CONFIG}:{given.task}"
    untimed = ["--config.stages.evaluate.evaluate.cost=False"]
    runs = [
        seeds.run_seed(config, seed, given.workdir, [shared, *(untimed if seed else []), *flags])
        for seed in range(given.seeds)
    ]
    rows = make_rows(given.task, runs)
    write_task(given.write, given.task, rows, columns=TITLES, gains=["gain"])
    gains = given.write and given.write.with_name(f"{given.write.stem}_gains.json")
    write_task(gains, given.task, make_gains(given.task, runs), columns=GAIN_TITLES, gains=["gain"])
    if given.write:
        (given.plots / f"compression_{given.task}.svg").write_text(draw(given.task, rows) + "\n")


if __name__ == "__main__":
    main()
