"""Predictions of `jaxdistill worth` against runs of four times the largest budget, on digits and MNIST.

    python benchmarks/worth.py --workdir runs/worth --data_dir DIR [--write docs/results/worth.json]

A ladder has three sizes of MLP, three numbers of examples and three of steps, each in four lanes with seeds and parts
of the data of their own: `benchmarks/configs/worth.py`, by `jaxdistill sweep`. Every run trains a fourth size and
length too, and a fourth run has four times the examples. The law is fitted without all these. They are the seven
held-out settings of each ladder: one, two or all of parameters, examples and steps are four times the ladder's largest.
There are two ladders for each dataset: with a teacher that has seen every label, and with one that has seen few.
A sign counts as right if the predicted loss of the student is below that of the control if and only if it is in the
mean of the runs.
"""

import argparse
import itertools
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import results

from jaxdistill.scaling.ladder import Ladder, read_ladder
from jaxdistill.scaling.worth import Worth, predict

CONFIG = "benchmarks/configs/worth.py"
PARTS = {"digits": (16, 8, 4, 1), "mnist": (256, 128, 64, 16)}
"""The training split is divided into so many parts, of which a lane has one; the last is held out."""


def run_ladder(mode: str, workdir: pathlib.Path, data_dir: str) -> Ladder:
    """Trains a ladder with its held-out runs, unless it is finished, and reads it."""
    parts = PARTS[mode.partition(",")[0]]
    lanes = [tuple(lane if of > 1 else 0 for lane in range(4)) for of in parts]
    words = [sys.executable, "-m", "jaxdistill", "sweep", f"{CONFIG}:{mode}", "--workdir", str(workdir)]
    words += ["--values", f"data.partition.of={','.join(map(str, parts))}"]
    words += ["--values", f"sweep.data.partition.part={','.join(map(str, lanes))}"]
    words += [f"--config.compilation_cache={workdir / 'compiled'}"]
    words += [f"--config.data.data_dir={data_dir}"] if mode.startswith("mnist") else []
    if not (workdir / "comparison" / "comparison.json").is_file():  # the end of a sweep
        subprocess.run(words, check=True)
    return read_ladder([str(workdir)], "taught_*", "alone_*", "nll")


def find_second_largest(ladder: Ladder) -> dict[str, float]:
    """Returns the largest value of each axis but that of the held-out runs."""
    return {axis: float(np.unique(values)[-2]) for axis, values in zip(ladder.axes, ladder.places.T, strict=True)}


def make_rows(ladder: Ladder) -> tuple[list[dict[str, Any]], Worth]:
    """Predicts the held-out runs of a ladder; returns a row for each, and the prediction."""
    limits = find_second_largest(ladder)
    largest = dict(zip(ladder.axes, ladder.places.max(0).tolist(), strict=True))
    chosen = [axes for size in (1, 2, 3) for axes in itertools.combinations(ladder.axes, size)]
    targets = [[(largest if axis in axes else limits)[axis] for axis in ladder.axes] for axes in chosen]
    prediction = predict(ladder.select(limits), np.array(targets))
    rows = []
    for axes, target, item in zip(chosen, targets, prediction.predictions, strict=True):
        [rung] = np.flatnonzero((ladder.places == target).all(1))
        taught, alone = ladder.students[rung], ladder.controls[rung]
        assert item.control is not None
        assert item.difference is not None
        pairs = results.summarize((taught - alone).tolist())
        row = {
            "name": f"4 x {', '.join(axes)}",
            "taught": results.summarize(taught.tolist()),
            "predicted": str(item.student),
            "error": 100 * (item.student.value / taught.mean() - 1),
            "alone": results.summarize(alone.tolist()),
            "predicted_alone": str(item.control),
            "error_alone": 100 * (item.control.value / alone.mean() - 1),
            "difference": pairs,
            "sign": "right" if (item.difference.value < 0) == (taught.mean() < alone.mean()) else "wrong",
        }
        rows.append(row)
    return rows, prediction


def summarize(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Returns a row for each ladder: its errors, and how many signs are right."""
    rows = []
    for title, settings in {**tables, "all": [row for table in tables.values() for row in table]}.items():
        errors = [abs(row["error"]) for row in settings]
        rows.append(
            {
                "name": title,
                "held out": len(settings),
                "median error %": float(np.median(errors)),
                "largest error %": float(max(errors)),
                "within 5 %": sum(int(error <= 5) for error in errors),
                "median error alone %": float(np.median([abs(row["error_alone"]) for row in settings])),
                "signs right": sum(int(row["sign"] == "right") for row in settings),
                "taught better": sum(int(row["difference"]["mean"] < 0) for row in settings),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--data_dir", default="", help="the folder of TFDS datasets, for MNIST")
    parser.add_argument("--modes", nargs="+", default=["digits", "digits,weak", "mnist", "mnist,weak"])
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given = parser.parse_args()
    tables = {}
    for mode in given.modes:
        ladder = run_ladder(mode, given.workdir / mode.replace(",", "_"), given.data_dir)
        tables[mode], prediction = make_rows(ladder)
        print(prediction)
    results.write(given.write, {"summary": summarize(tables), **tables})


if __name__ == "__main__":
    main()
