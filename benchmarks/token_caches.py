"""Forms of caches of a teacher of tokens: bytes a token, error of the KL, and the student that learns from each.

    python benchmarks/token_caches.py --workdir runs/token_caches [--steps 300] [--write docs/results/token_caches.json]

A decoder of two layers learns sums (`data.name="sums"`, 256 tokens) and is stored in each form; a student of one layer
learns from it, from the same weights and batches. The teacher is in bfloat16 wherever it teaches. Columns:

    bytes a token  of a record, without what all records share
    KL error       difference of the loss of the first step to that of the live teacher, relative, times 1e6
    test KL, NLL   of the student after the last step, on test sums, nats
    of live        its test KL over that of the student of the live teacher

Runs on the CPU, one seed. `svd half` has half of the numbers of a state, `top_k` the exact rest as one class, and
`sampled` draws classes.
"""

import argparse
import json
import pathlib
from typing import Any

import results
from ml_collections import ConfigDict

import jaxdistill
from jaxdistill.data.output_cache import Header

FORMS = {
    "hidden bfloat16": {"cache": {"store": "hidden", "dtype": "bfloat16"}, "method": "forward_kl", "tail": "uniform"},
    "hidden int8": {"cache": {"store": "hidden", "dtype": "int8"}, "method": "forward_kl", "tail": "uniform"},
    "svd half": {"cache": {"store": "svd", "dtype": "bfloat16"}, "method": "forward_kl", "tail": "uniform"},
    "svd half int8": {"cache": {"store": "svd", "dtype": "int8"}, "method": "forward_kl", "tail": "uniform"},
    "top_k 16": {"cache": {"store": "top_k", "k": 16}, "method": "top_k", "tail": "bucket"},
    "sampled 16": {"cache": {"store": "sampled", "k": 16}, "method": "random_sampling", "tail": "uniform"},
}
DECODER = {
    "model": "decoder",
    "positions": "rotary",
    "norm": "rms",
    "activation": "swiglu",
    "bias": False,
    "length": 10,
}


def make_config(steps: int) -> ConfigDict:
    """Returns the run: the teacher, its caches, and a student of each form."""
    networks = {
        "teacher": dict(
            DECODER, source="frozen", layers=2, width=64, heads=4, dtype="bfloat16", weights="stage:teacher"
        ),
        "student": dict(DECODER, source="trained", layers=1, width=32, heads=4),
    }
    stages: dict[str, Any] = {
        "teacher": {
            "networks": {"teacher": {"source": "trained", "weights": "", "dtype": "float32"}},
            "terms": {"task": {"method": "cross_entropy", "student": "teacher"}},
            "steps": 2 * steps,
        },
        "live": {"networks": {"teacher": {}, "student": {}}, "terms": {"kd": {"method": "forward_kl"}}},
    }
    for name, form in FORMS.items():
        key = name.replace(" ", "_")
        networks[f"of_{key}"] = {"source": "cached", "cache": f"stage:cache_{key}", "tail": form["tail"]}
        cache = dict(form["cache"], splits=("train",))
        stages[f"cache_{key}"] = {"kind": "cache", "networks": {"teacher": {}}, "cache": cache}
        read = {"teacher": {"like": f"of_{key}"}, "student": {}}
        stages[key] = {"networks": read, "terms": {"kd": {"method": form["method"]}}}
    students = {
        name: {"like": "student", "source": "frozen", "weights": f"stage:{name}#student"} for name in list_students()
    }
    shown = {"split": "test", "networks": (*students,), "reference": "teacher", "metrics": ("kl", "nll")}
    stages["evaluate"] = {"kind": "evaluate", "networks": dict(teacher={}, **students), "evaluate": shown}
    return ConfigDict(
        {
            "batch": 64,
            "steps": steps,
            "log_every": 1,
            "data": {"name": "sums"},
            "networks": networks,
            "optimizer": {"name": "adamw", "weight_decay": 0.1},
            "learning_rate": {"name": "cosine_decay", "init_value": 1e-3},
            "evaluate": {"every": 0, "metrics": ()},
            "stages": stages,
        }
    )


def list_students() -> list[str]:
    """Returns the stages of the students."""
    return ["live", *(name.replace(" ", "_") for name in FORMS)]


def make_rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns a row for the live teacher and for each form."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    first = {line["stage"]: line["loss"] for line in reversed(lines) if "loss" in line}
    measured = {row["network"]: row for row in json.loads((workdir / "results.json").read_text())}
    live, rows = measured["live"]["kl"], []
    for title, stage in zip(["live", *FORMS], list_students(), strict=True):
        row: dict[str, Any] = {
            "name": title,
            "bytes a token": None,
            "KL error (1e-6)": 1e6 * abs(first[stage] / first["live"] - 1),
        }
        if title != "live":
            header = Header.read(workdir / f"cache_{stage}")
            row["bytes a token"] = header.record.itemsize / next(iter(header.arrays.values()))[0][0]
        kl, nll = measured[stage]["kl"], measured[stage]["nll"]
        rows.append(row | {"test KL": kl, "test NLL": nll, "of live": kl / live})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--write", type=pathlib.Path)
    given = parser.parse_args()
    jaxdistill.run(make_config(given.steps), given.workdir)
    results.write(given.write, {"": make_rows(given.workdir)})


if __name__ == "__main__":
    main()
