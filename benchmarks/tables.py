"""Trains teacher, control and student of every config of tables, over seeds.

    python benchmarks/tables.py --workdir runs/tables --seeds 5 [--data_dir DIR] [--write docs/results/tables.json] \\
        [--config.KEY=VALUE ...]

Each seed is the ordinary command with a config of `configs/tables` in a process of its own, or a lane of one run for a
config of networks alone; a finished seed is not repeated. Splits are the same; seeds differ in initialisation and
order. AG News is left out without `data_dir`, the folder of TFDS datasets. The results are mean and standard deviation
(n - 1) over seeds of the last step's weights on the test split. `bytes` are those of float32 parameters.
`docs/tables.md` is made of them by `benchmarks/results.py`.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import results
import seeds

from jaxdistill.config import load

CONFIGS = {
    "Breast cancer": "configs/tables/breast_cancer.py",
    "Wine": "configs/tables/wine.py",
    "Digits as vectors": "configs/tables/digits.py",
    "AG News by TF-IDF": "configs/tables/ag_news_tfidf.py",
    "Diabetes, Gaussian": "configs/tables/diabetes.py",
    "Diabetes, quantiles": "configs/tables/diabetes.py:quantiles",
}
"""Configs by the title of their table."""

METRICS = ("accuracy", "f1", "nll", "rmse", "gaussian_nll", "pinball")

COLUMN_OF = {"gaussian_nll": "nll"}
"""The columns of metrics with another name."""

COLUMNS = {
    "name": "network",
    "parameters": "parameters",
    "bytes": "bytes",
    "accuracy": "accuracy",
    "f1": "F1 (macro)",
    "rmse": "RMSE",
    "pinball": "pinball loss",
    "nll": "NLL (nats)",
}


def make_rows(runs: Sequence[seeds.Rows]) -> list[dict[str, Any]]:
    """Makes a row for each network of a config: the teacher, its members, the control and the student."""
    rows = []
    for name, of_network in seeds.group_by_network(runs).items():
        present = [metric for metric in METRICS if metric in of_network[0]]
        row = seeds.summarize(name, of_network, present)
        numbers = {COLUMN_OF.get(metric, metric): row[metric] for metric in present}
        # Outputs that scikit-learn computed have no parameters of a network.
        sizes = {"parameters": row["parameters"], "bytes": 4 * row["parameters"]} if "parameters" in row else {}
        rows.append({"name": f"{name}_student" if name == "alone" else name} | sizes | numbers)
    return rows


def has_classifiers(config: str) -> bool:
    """Whether a config fits classifiers of scikit-learn, which lanes do not share."""
    return any(stage.get("kind") == "sklearn" for stage in load.read(config)["stages"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data_dir", default="", help="the folder of TFDS datasets")
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()
    tables = {}
    for title, config in CONFIGS.items():
        own = [f"--config.data.data_dir={given.data_dir}"] if "ag_news" in config else []
        if own and not given.data_dir:
            continue
        folder = given.workdir / pathlib.Path(config).name.replace(".py", "").replace(":", "_")
        if has_classifiers(config):
            runs = [seeds.run_seed(config, seed, folder, [*own, *flags]) for seed in range(given.seeds)]
        else:
            runs = seeds.run_lanes(config, given.seeds, folder, [*own, *flags])
        tables[title] = make_rows(runs)
    columns = {
        key: title for key, title in COLUMNS.items() if any(key in row for rows in tables.values() for row in rows)
    }
    results.write(given.write, tables, columns=columns)


if __name__ == "__main__":
    main()
