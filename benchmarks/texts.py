"""Trains every text student by every method from one fine-tuned MiniLM, over seeds.

    python benchmarks/texts.py --dataset ag_news --workdir runs/ag_news_table --seeds 3 \\
        [--write docs/results/ag_news.json] [--config.KEY=VALUE ...]

Each seed is the ordinary command with `configs/DATASET/table.py` in a process of its own, with a teacher of its own; a
finished seed is not repeated. The results are mean and standard deviation (n - 1) over seeds of the last step's weights
on the test split, the gain over the same student alone from the seeds' pairs, bytes in a file, and the latency of one
text of the longest bucket, which each evaluation measures in rounds in turn (`evaluate.cost`): its median over seeds.
"""

import argparse
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import results
import seeds

from jaxdistill.config import load as configs
from jaxdistill.config import registry

TABLES = ("embed", "positions", "segments")
"""Names of embedding tables."""

CLASSES = {"ag_news": 4, "sst2": 2}
"""Number of classes by dataset."""

METRICS = ("accuracy", "precision", "recall", "f1", "nll", "ece")
COLUMNS = {
    "name": "network",
    "parameters": "parameters",
    "body": "without embeddings",
    "bytes": "bytes",
    "latency_ms": "latency (ms)",
    "accuracy": "accuracy",
    "gain": "gain over `alone`",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "nll": "NLL (nats)",
    "ece": "ECE",
}


def count_bodies(config: str, flags: Sequence[str], classes: int) -> dict[str, int]:
    """Returns the parameters without embeddings of each network of the final table, from shapes alone."""
    stage = configs.load(config, flags)["evaluate"]
    tokens = jax.ShapeDtypeStruct((1, max(stage.data.buckets or (stage.data.length,))), jnp.int32)
    sizes = {}
    for name, network in stage.networks.items():
        fields = {
            key: network.options[key] for key in registry.fields(registry.find("model", network.options["model"]))
        }
        module = registry.make("model", network.options["model"], fields, classes=classes)
        params = jax.eval_shape(module.init, jax.random.key(0), tokens)["params"]
        sizes[name] = sum(x.size for key, part in params.items() if key not in TABLES for x in jax.tree.leaves(part))
    return sizes


def make_rows(runs: Sequence[seeds.Rows], bodies: Mapping[str, int]) -> list[dict[str, Any]]:
    """Makes a row for each network, with its gain over the same student alone."""
    by_name = seeds.group_by_network(runs)
    rows = []
    for name, of_network in by_name.items():
        row = seeds.summarize(name, of_network, METRICS)
        row |= {"body": bodies[name], "bytes": of_network[0]["bytes"]}
        row |= {"latency_ms": statistics.median(run["latency_ms"] for run in of_network)}
        control = by_name.get(f"alone_{name.rpartition('_')[2]}", of_network)
        if control is not of_network:
            pairs = zip(of_network, control, strict=True)
            row["gain"] = results.summarize([left["accuracy"] - right["accuracy"] for left, right in pairs])
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=tuple(CLASSES), required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()
    config = f"configs/{given.dataset}/table.py"
    runs = [seeds.run_seed(config, seed, given.workdir, flags) for seed in range(given.seeds)]
    bodies = count_bodies(config, flags, CLASSES[given.dataset])
    results.write(given.write, {"": make_rows(runs, bodies)}, columns=COLUMNS, gains=["gain"])


if __name__ == "__main__":
    main()
