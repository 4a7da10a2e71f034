"""Trains every classification method on the digits from the same teacher, over seeds.

    python benchmarks/zoo.py --workdir runs/zoo --seeds 5 [--write docs/results/zoo.json] [--config.KEY=VALUE ...]

Each seed is the ordinary command with `configs/digits/zoo.py:all` in a process of its own; a finished seed is not
repeated. The results are mean and standard deviation (n - 1) over seeds of the last step's weights on the test split,
the gain over the control from the seeds' pairs, and the data that each method sees. `docs/zoo.md` is made of them by
`benchmarks/results.py`.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import results
import seeds

from jaxdistill.config import registry

CONFIG = "configs/digits/zoo.py:all"
CONTROL = "alone"
FIRST = ("teacher", CONTROL, "kd")
METRICS = ("accuracy", "nll", "ece", "agreement")
COLUMNS = {
    "name": "method",
    "accuracy": "accuracy",
    "gain": f"gain over `{CONTROL}`",
    "nll": "NLL (nats)",
    "ece": "ECE",
    "agreement": "agreement",
    "sees": "sees",
}


def describe_data(name: str) -> str:
    """Returns the data of a method's term, besides the hundred labels of the task's term."""
    if name in ("teacher", CONTROL):
        return "all labels" if name == "teacher" else "100 labels"
    labelled = registry.find("method", name).needs_labels
    return "100 labelled images" if labelled else "all images"


def make_rows(runs: Sequence[seeds.Rows]) -> list[dict[str, Any]]:
    """Makes a row for each method: teacher, control and plain KD first, then the others by mean accuracy."""
    by_name = seeds.group_by_network(runs)
    accuracy = {name: [row["accuracy"] for row in rows] for name, rows in by_name.items()}

    def make_row(name: str) -> dict[str, Any]:
        row = seeds.summarize(name, by_name[name], METRICS) | {"sees": describe_data(name)}
        pairs = zip(accuracy[name], accuracy[CONTROL], strict=True)
        return row if name == CONTROL else row | {"gain": results.summarize([left - right for left, right in pairs])}

    first = [name for name in FIRST if name in by_name]
    rows = [make_row(name) for name in by_name if name not in first]
    return [*map(make_row, first), *sorted(rows, key=lambda row: -row["accuracy"]["mean"])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()
    runs = [seeds.run_seed(CONFIG, seed, given.workdir, flags) for seed in range(given.seeds)]
    results.write(given.write, {"": make_rows(runs)}, columns=COLUMNS, gains=["gain"])


if __name__ == "__main__":
    main()
