"""Methods of distillation compared with the student without a teacher, over seeds: rows, options, and the command."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import results
import seeds

COSTS = ("parameters", "flops")
FALLING = ("nll",)
"""Metrics whose smaller values are better."""


def make_rows(runs: Sequence[seeds.Rows], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Makes a row for each network: the teacher, the control `alone`, then the methods by the first metric, best first.

    Args:
        runs: the rows of each seed.
        metrics: keys of rows; `gain` is how much better the first is than that of `alone` of the same seed.
    """
    first = metrics[0]
    sign = -1 if first in FALLING else 1
    by_name = seeds.group_by_network(runs)
    rows = []
    for name, of_network in by_name.items():
        row: dict[str, Any] = {"name": name} | {key: of_network[0][key] for key in COSTS}
        row |= {key: results.summarize([run.get(key) for run in of_network]) for key in metrics}
        if name not in ("teacher", "alone"):
            pairs = zip(of_network, by_name["alone"], strict=True)
            row["gain"] = results.summarize([sign * (run[first] - control[first]) for run, control in pairs])
        rows.append(row)
    ranks = {"teacher": 0, "alone": 1}
    return sorted(rows, key=lambda row: (ranks.get(row["name"], 2), -sign * row[first]["mean"]))


def compare(description: str, configs: Mapping[str, str], titles: Mapping[str, str]) -> None:
    """Runs the command of a script whose tasks have such tables.

    Args:
        description: of the script.
        configs: a config for each task.
        titles: of the columns of a metric, by key; those that a task does not have are left out, and the first is
            ranked.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=configs, required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lanes", action="store_true", help="all seeds as lanes of one run")
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()
    shared = f"--config.compilation_cache={(given.workdir / 'compiled').resolve()}"
    config, flags = configs[given.task], [shared, *flags]
    if given.lanes:
        runs = seeds.run_lanes(config, given.seeds, given.workdir, flags)
    else:
        runs = [seeds.run_seed(config, seed, given.workdir, flags) for seed in range(given.seeds)]
    titles = {key: title for key, title in titles.items() if any(key in row for row in runs[0])}
    first, *others = titles
    columns = {"name": "network", "parameters": "parameters", "flops": "FLOPs", first: titles[first]}
    columns |= {"gain": "gain by the teacher"} | {key: titles[key] for key in others}
    results.write(given.write, {"": make_rows(runs, tuple(titles))}, columns=columns, gains=["gain"])
