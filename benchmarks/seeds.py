"""Runs a config with several seeds and prints mean and spread of its final table.

    python benchmarks/seeds.py --config configs/digits/kd.py --seeds 5 --workdir runs/seeds [--config.KEY=VALUE ...]

All seeds are lanes of one run, the ordinary command with `--config.sweep.seed=(0, 1, ...)`: every stage trains all of
them in one program, a student with the teacher of its own seed. With `--separate` each is a run in a process of its
own, in `WORKDIR/seed0` and so on, which gives the same but for rounding. What is done is not run again. The spread is
the standard deviation over seeds (n - 1).
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys


def run(config: str, seed: int, workdir: pathlib.Path, more: list[str]) -> list[dict]:
    """Runs one seed and returns its rows."""
    return _launched(config, workdir / f"seed{seed}", [f"--config.seed={seed}", *more], "results.json")


def together(config: str, seeds: int, workdir: pathlib.Path, more: list[str]) -> list[list[dict]]:
    """Runs all seeds as lanes of one run and returns the rows of each."""
    rows = _launched(config, workdir, [f"--config.sweep.seed={tuple(range(seeds))}", *more], "lanes.json")
    return [[row for row in rows if row["lane"] in (lane, None)] for lane in range(seeds)]


def _launched(config: str, workdir: pathlib.Path, flags: list[str], result: str) -> list[dict]:
    words = [sys.executable, "-m", "jaxdistill.launch", "--config", config, "--workdir", str(workdir)]
    subprocess.run([*words, *flags], check=True)
    return json.loads((workdir / result).read_text())


def table(runs: list[list[dict]], metrics: list[str]) -> str:
    """Writes a Markdown table, a row each network, `mean ± spread` of each metric."""
    lines = [f"| network | parameters | {' | '.join(metrics)} |", "| --- " + "| ---: " * (1 + len(metrics)) + "|"]
    for rows in zip(*runs, strict=True):
        cells = [_cell([row[metric] for row in rows]) for metric in metrics]
        lines.append(f"| {rows[0]['network']} | {rows[0]['parameters']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    if any(value is None for value in values):
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--metrics", nargs="+", default=["accuracy", "nll", "ece", "agreement"])
    parser.add_argument("--separate", action="store_true", help="a run of its own for each seed")
    given, more = parser.parse_known_args()
    if given.separate:
        runs = [run(given.config, seed, given.workdir, more) for seed in range(given.seeds)]
    else:
        runs = together(given.config, given.seeds, given.workdir, more)
    print(f"\n{given.config}, {given.seeds} seeds, mean ± standard deviation\n\n{table(runs, given.metrics)}")


if __name__ == "__main__":
    main()
