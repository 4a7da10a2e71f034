"""Trains every text student by every method from one fine-tuned MiniLM, over seeds.

    python benchmarks/texts.py --dataset ag_news --workdir runs/ag_news_table --seeds 3 \\
        [--write docs/results/ag_news.json] [--scratch 2] [--features 1] [--config.KEY=VALUE ...]

Each seed is the ordinary command with `configs/DATASET/table.py` in a process of its own, with a teacher of its own; a
finished seed is not repeated. A fine-tuning of MiniLM is most of the time of a seed. So `--scratch N` adds N seeds with
the first seed's teacher, of the students alone that do not start from its layers, and `--features N` runs the methods
of features on one student in N seeds, with that teacher too. The results are mean and standard deviation (n - 1) over
seeds of the last step's weights on the test split, the gain over the same student alone from the seeds' pairs, bytes in
a file, and the latency of one text of the longest bucket, which each evaluation measures in rounds in turn
(`evaluate.cost`): its median over seeds.
"""

import argparse
import itertools
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


def run_with_first_teacher(
    dataset: str, mode: str, seed: int, workdir: pathlib.Path, flags: Sequence[str]
) -> seeds.Rows:
    """Runs a seed of a mode of the table with the teacher of seed 0."""
    config = f"configs/{dataset}/table.py:{mode}@{(workdir / 'seed0').resolve()}"
    return seeds.run_seed(config, seed, workdir / mode, flags)


def make_rows(runs: Sequence[seeds.Rows], bodies: Mapping[str, int], teachers: int) -> list[dict[str, Any]]:
    """Makes a row for each network, with its gain over the same student alone; `teachers` are different ones."""
    by_name: dict[str, seeds.Rows] = {}
    for row in itertools.chain(*runs):
        by_name.setdefault(row["network"], []).append(row)
    by_name["teacher"] = by_name["teacher"][:teachers]
    rows = []
    for name, of_network in by_name.items():
        row = seeds.summarize(name, of_network, METRICS)
        student = name.rpartition("_")[2]
        row |= {"body": bodies.get(name) or bodies[f"kd_{student}"], "bytes": of_network[0]["bytes"]}
        row |= {"latency_ms": statistics.median(run["latency_ms"] for run in of_network)}
        control = by_name.get(f"alone_{student}", of_network)
        if control is not of_network:
            pairs = zip(of_network, control, strict=False)  # the first seeds are the same
            row["gain"] = results.summarize([left["accuracy"] - right["accuracy"] for left, right in pairs])
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=tuple(CLASSES), required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scratch", type=int, default=0, help="further seeds, with the teacher of the first")
    parser.add_argument("--features", type=int, default=0, help="seeds of the methods of features")
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()
    config = f"configs/{given.dataset}/table.py"
    runs = [seeds.run_seed(config, seed, given.workdir, flags) for seed in range(given.seeds)]
    for mode, numbers in (
        ("scratch", range(given.seeds, given.seeds + given.scratch)),
        ("features", range(given.features)),
    ):
        runs += [run_with_first_teacher(given.dataset, mode, seed, given.workdir, flags) for seed in numbers]
    bodies = count_bodies(config, flags, CLASSES[given.dataset])
    results.write(given.write, {"": make_rows(runs, bodies, given.seeds)}, columns=COLUMNS, gains=["gain"])


if __name__ == "__main__":
    main()
