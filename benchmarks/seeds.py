"""Runs a config with several seeds, and writes mean and spread of its final table.

    python benchmarks/seeds.py --config configs/digits/kd.py --seeds 5 --workdir runs/seeds [--config.KEY=VALUE ...] \\
        [--write docs/results/digits_kd.json]

All seeds are lanes of one run, the ordinary command with `--config.sweep.seed=(0, 1, ...)`: every stage trains all of
them in one program, a student with the teacher of its own seed. With `--separate` each seed is a run in a process of
its own, in `WORKDIR/seed0` and so on, with equal results except for rounding. A finished run is not repeated. The
spread is the standard deviation over seeds (n - 1).
"""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import results

Rows = list[dict[str, Any]]

COSTS = ("parameters", "bytes", "flops")
TITLES = {"name": "network", "flops": "FLOPs", "nll": "NLL (nats)", "ece": "ECE"}


def run_seed(config: str, seed: int, workdir: pathlib.Path, flags: Sequence[str]) -> Rows:
    """Runs one seed and returns its rows."""
    return _launch(config, workdir / f"seed{seed}", [f"--config.seed={seed}", *flags], "results.json")


def run_lanes(config: str, seeds: int, workdir: pathlib.Path, flags: Sequence[str]) -> list[Rows]:
    """Runs all seeds as lanes of one run and returns the rows of each."""
    rows = _launch(config, workdir, [f"--config.sweep.seed={tuple(range(seeds))}", *flags], "lanes.json")
    return [[row for row in rows if row["lane"] in (lane, None)] for lane in range(seeds)]


def _launch(config: str, workdir: pathlib.Path, flags: Sequence[str], file: str) -> Rows:
    words = [sys.executable, "-m", "jaxdistill.launch", "--config", config, "--workdir", str(workdir)]
    subprocess.run([*words, *flags], check=True)
    return json.loads((workdir / file).read_text())


def group_by_network(runs: Sequence[Rows], prefix: str = "") -> dict[str, Rows]:
    """Returns the rows of each network, one for each seed; `prefix` goes before the names."""
    return {f"{prefix}{rows[0]['network']}": list(rows) for rows in zip(*runs, strict=True)}


def summarize(name: str, rows: Rows, metrics: Sequence[str]) -> dict[str, Any]:
    """Makes a row of results from one network's rows over seeds."""
    spreads = {metric: results.summarize([row[metric] for row in rows]) for metric in metrics}
    return {"name": name} | {key: rows[0][key] for key in ("parameters",) if key in rows[0]} | spreads


def title_columns(keys: Sequence[str], titles: Mapping[str, str] = TITLES) -> dict[str, str]:
    """Returns the titles of columns by key."""
    return {key: titles.get(key, key) for key in keys}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--metrics", nargs="+", default=["accuracy", "nll", "ece", "agreement"])
    parser.add_argument("--separate", action="store_true", help="a run of its own for each seed")
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()
    if given.separate:
        runs = [run_seed(given.config, seed, given.workdir, flags) for seed in range(given.seeds)]
    else:
        runs = run_lanes(given.config, given.seeds, given.workdir, flags)
    rows = [
        summarize(name, of_network, given.metrics) | {key: of_network[0][key] for key in COSTS if key in of_network[0]}
        for name, of_network in group_by_network(runs).items()
    ]
    results.write(given.write, {"": rows}, columns=title_columns(["name", *COSTS, *given.metrics]))


if __name__ == "__main__":
    main()
