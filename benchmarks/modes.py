"""Runs every mode of distillation on the digits over seeds.

    python benchmarks/modes.py --workdir runs/modes --seeds 5 [--data_dir DIR] [--write docs/results/modes.json]

Each seed is the ordinary command with `configs/digits/modes.py:all` in a process of its own. With `--data_dir`, the
folder of MNIST as prepared by TFDS, `modes.py:mnist` and `configs/mnist/cross.py` run too. A finished seed is not
repeated. The results are mean and standard deviation (n - 1) over seeds, of the last step's weights on the test split.
`docs/modes.md` is made of them by `benchmarks/results.py`; `mode_tables.py` lists its tables.
"""

import argparse
import pathlib
from collections.abc import Mapping
from typing import Any

import mode_tables
import results
import seeds

DIGITS, MNIST, CROSS = "configs/digits/modes.py:all", "configs/digits/modes.py:mnist", "configs/mnist/cross.py"
METRICS = ("accuracy", "agreement", "nll")


def make_tables(by_name: Mapping[str, seeds.Rows]) -> dict[str, list[dict[str, Any]]]:
    """Makes the rows of every table; a network of a run that was not made has no numbers."""
    return {
        title: [
            {"name": name, "description": description}
            | (seeds.summarize(name, by_name[name], METRICS) if name in by_name else {})
            for name, description in networks.items()
        ]
        for title, networks in mode_tables.TABLES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()

    def run(config: str, folder: str, *more: str) -> list[seeds.Rows]:
        return [seeds.run_seed(config, seed, given.workdir / folder, [*more, *flags]) for seed in range(given.seeds)]

    by_name = seeds.group_by_network(run(DIGITS, "digits"))
    if given.data_dir:
        mix = f"--config.stages.mnist.data.mix.mnist.data_dir={given.data_dir}"
        by_name["mnist"] = seeds.group_by_network(run(MNIST, "mnist", mix))["mnist"]
        crossed = run(CROSS, "cross", f"--config.data.data_dir={given.data_dir}")
        by_name |= seeds.group_by_network(crossed, "cross_")
    columns = seeds.title_columns(["name", "description", "parameters", *METRICS])
    results.write(given.write, make_tables(by_name), columns=columns)


if __name__ == "__main__":
    main()
