"""Compares methods of distillation for detection with their control, over seeds.

    python benchmarks/detection.py --task shapes --workdir runs/shapes_detect --seeds 3 \\
        [--write docs/results/shapes_detect.json] [--config.KEY=VALUE ...]
    python benchmarks/detection.py --task bccd --workdir runs/bccd --config.data.data_dir=DIR [...]

Each seed is the ordinary command with the config of the task in a process of its own; a finished seed is not repeated,
and seeds share compiled programs. Rows are networks: mean and standard deviation (n - 1) over seeds of the last step's
weights on the test split. `gain` is the mean difference to the student of the same seed without the teacher, in
COCO's average precision. `benchmarks/results.py` makes the tables of `docs/detection.md`.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import results
import seeds

CONFIGS = {
    "shapes": "configs/shapes/detect.py",
    "bccd": "configs/detection.py",
    "shapes_smoke": "configs/shapes/detect.py:smoke",
    "bccd_smoke": "configs/detection.py:smoke",
}
METRICS = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
COSTS = ("parameters", "flops")
TITLES = {
    "name": "network",
    "parameters": "parameters",
    "flops": "FLOPs",
    "map": "mAP",
    "gain": "gain by the teacher",
    "map50": "mAP 50",
    "map75": "mAP 75",
    "map_small": "small",
    "map_medium": "medium",
    "map_large": "large",
}


def make_rows(runs: Sequence[seeds.Rows]) -> list[dict[str, Any]]:
    """Makes a row for each network: the teacher, the control, then the methods by falling mAP."""
    by_name = seeds.group_by_network(runs)
    rows = []
    for name, of_network in by_name.items():
        row = {"name": name} | {key: of_network[0][key] for key in COSTS}
        row |= {key: results.summarize([run.get(key) for run in of_network]) for key in METRICS}
        if name not in ("teacher", "alone"):
            pairs = zip(of_network, by_name["alone"], strict=True)
            row["gain"] = results.summarize([run["map"] - control["map"] for run, control in pairs])
        rows.append(row)
    return sorted(rows, key=lambda row: (*(row["name"] != name for name in ("teacher", "alone")), -_mean(row)))


def _mean(row: dict[str, Any]) -> float:
    return row["map"]["mean"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=CONFIGS, required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()
    shared = f"--config.compilation_cache={(given.workdir / 'compiled').resolve()}"
    config = CONFIGS[given.task]
    runs = [seeds.run_seed(config, seed, given.workdir, [shared, *flags]) for seed in range(given.seeds)]
    results.write(given.write, {"": make_rows(runs)}, columns=TITLES, gains=["gain"])


if __name__ == "__main__":
    main()
