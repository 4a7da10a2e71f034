"""Steps of distillation as compiled for slices of TPUs that this machine does not have: memory, and estimated time.

    python benchmarks/tpu_estimate.py [--rows vit bert ...] [--write docs/results/tpu.json] [--programs FOLDER]
    python benchmarks/tpu_estimate.py --add FILE ... --write docs/results/tpu.json
    python -m jaxdistill.launch --plan --topology=v5e:4x4 --config benchmarks/tpu_estimate.py:bert \
        --config.data.path=FILE

Each row is a stage of the config below, whose step libtpu compiles (pip install 'jaxdistill[tpu]') in a process of its
own. Time is the compiler's estimate of cycles over the clock (`jaxdistill/estimate`), without collectives, which may
overlap: nothing ran. It is the same on every machine and in every run. Utilisation is the fraction of the peak
in bfloat16, by the FLOPs of matrix products and convolutions, those of recomputation included. Bytes are arguments,
results and working memory of a device. A step has no time if the trips of a loop depend on data. With
`--write`, rows that are not measured stay as they are in the file; `--add` takes rows from files that other runs wrote,
and measures none but those of `--rows`; `--programs` keeps the text of each compiled step.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
import numpy as np
import our_steps
import results
from ml_collections import ConfigDict

from jaxdistill import networks
from jaxdistill.estimate import chips, costs, describe
from jaxdistill.runtime import topology, xla_options
from jaxdistill.train import flops

HERE = pathlib.Path(__file__).resolve()

BERT = dict(model="encoder", width=768, heads=12, hidden=3072, length=512)
LLAMA = dict(
    model="decoder",
    positions="rotary",
    norm="rms",
    activation="swiglu",
    bias=False,
    tied=False,
    scan=True,
    remat="block",
)
CLASSIFY = dict(task=dict(method="cross_entropy"), kd=dict(method="kd", temperature=4.0))


def next_token(chunk: int) -> dict[str, Any]:
    """Returns the terms of a language model, of which a chunk counts the tokens of all devices."""
    return dict(task=dict(method="cross_entropy", chunk=chunk), kd=dict(method="forward_kl", chunk=chunk))


STEPS: dict[str, dict[str, Any]] = {
    "vit": dict(
        title="ViT-B/16 -> ViT-S/16, 224 px",
        topology="v5e:4x4",
        per_chip=64,
        data=dict(size=224, classes=1000),
        teacher=dict(model="vit"),
        student=dict(model="vit", width=384, heads=6),
        terms=CLASSIFY,
    ),
    "resnet32x4": dict(
        title="ResNet-32x4 -> ResNet-8x4, 32 px",
        topology="v5e:2x2",
        per_chip=256,
        data=dict(size=32, classes=100),
        teacher=dict(model="cifar_resnet", depth=32, width=4),
        student=dict(model="cifar_resnet", depth=8, width=4),
        terms=CLASSIFY,
    ),
    "resnet50": dict(
        title="ResNet-50 -> ResNet-18, 224 px",
        topology="v5e:4x4",
        per_chip=128,
        data=dict(size=224, classes=1000),
        teacher=dict(model="resnet", depth=50),
        student=dict(model="resnet", depth=18),
        terms=CLASSIFY,
    ),
    "bert": dict(
        title="BERT-base -> 6 layers, 128 tokens",
        topology="v5e:4x4",
        per_chip=128,
        data=dict(length=128, vocabulary=30522, classes=4),
        teacher=dict(BERT, layers=12),
        student=dict(BERT, layers=6),
        terms=CLASSIFY,
    ),
    "llama_1b": dict(
        title="Llama 1B -> 0.3B, 2,048 tokens, 128k vocabulary, fsdp",
        topology="v5e:4x4",
        per_chip=4,
        data=dict(length=2048, vocabulary=128256),
        teacher=dict(LLAMA, length=2048, layers=16, width=2048, heads=32, hidden=8192),
        student=dict(LLAMA, length=2048, layers=8, width=1024, heads=16, hidden=4096),
        terms=next_token(1024 * 16),
        fsdp=-1,
    ),
    "llama_7b": dict(
        title="Llama 7B -> 1B, 4,096 tokens, 32k vocabulary, fsdp",
        topology="v5p:4x4x4",
        per_chip=4,
        data=dict(length=4096, vocabulary=32000),
        teacher=dict(LLAMA, length=4096, layers=32, width=4096, heads=32, hidden=11008),
        student=dict(LLAMA, length=4096, layers=22, width=2048, heads=32, key_heads=4, hidden=5632),
        terms=next_token(1024 * 64),
        fsdp=-1,
    ),
}
"""Steps by name. Llama 7B is Llama 2's, and its student of 1B has the shape of TinyLlama."""

EARLIER = {"vit": 67.2, "resnet32x4": 8.38, "resnet50": 35.3, "bert": 83.7}
"""Milliseconds of the same steps at commit 25aba85; Llama 1B's did not fit then."""

COLUMNS = {
    "name": "step",
    "title": "networks",
    "topology": "slice",
    "batch": "examples",
    "milliseconds": "ms",
    "utilisation": "of peak",
    "earlier_milliseconds": "ms at 25aba85",
    "earlier_utilisation": "of peak at 25aba85",
    "bytes": "bytes of a device",
    "collective_bytes": "bytes of collectives",
    "commit": "commit",
    "libtpu": "libtpu",
}

MODES = tuple(STEPS)


def get_config(mode: str = "") -> ConfigDict:
    """Returns the config of a step; `data.path` is a file of `write_data`."""
    step = STEPS[mode]
    c = ConfigDict()
    c.batch, c.steps = step["per_chip"] * topology.count_chips(step["topology"]), 10
    c.data = dict(name="npz", path="", resident="no")
    c.networks = dict(
        teacher=dict(step["teacher"], source="frozen", dtype="bfloat16", weights="stage:teacher"),
        student=dict(step["student"], source="trained", dtype="bfloat16"),
    )
    c.terms = step["terms"]
    c.optimizer = dict(name="adamw", weight_decay=0.01)
    c.learning_rate = dict(name="constant", value=1e-3)
    if "fsdp" in step:
        c.mesh, c.sharding = dict(data=1, fsdp=step["fsdp"]), ("fsdp",)
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(
                {name: term for name, term in step["terms"].items() if name == "task"}, task=dict(student="teacher")
            ),
        ),
        distil=dict(evaluate=dict(metrics=())),
    )
    return c


def write_data(path: pathlib.Path, data: dict[str, int]) -> pathlib.Path:
    """Writes a few examples of the shape of a step's: a step is compiled from shapes alone."""
    draw, rows = np.random.default_rng(0), 8
    arrays: dict[str, Any] = {}
    for role in ("train", "test"):
        if "size" in data:
            arrays[f"{role}_image"] = draw.integers(0, 256, (rows, data["size"], data["size"], 3), np.uint8)
        else:
            arrays[f"{role}_tokens"] = draw.integers(0, data["vocabulary"], (rows, data["length"]), np.int32)
            arrays["vocabulary"] = np.int32(data["vocabulary"])
        if "classes" in data:
            arrays[f"{role}_label"] = np.arange(rows, dtype=np.int32) % data["classes"]
            arrays["class_names"] = np.array([f"class {k}" for k in range(data["classes"])])
    np.savez(path, **arrays)
    return path


def measure(name: str, programs: pathlib.Path | None = None) -> dict[str, Any]:
    """Compiles a step and returns its row; its text goes to a folder, if there is one."""
    step = STEPS[name]
    target = topology.find(step["topology"])
    chip, devices = chips.find_chip(target), len(target.devices)
    with tempfile.TemporaryDirectory() as folder, topology.compile_for(target):
        path = write_data(pathlib.Path(folder) / "examples.npz", step["data"])
        stage = our_steps.build_stage(f"{HERE}:{name}", "distil", [f"--config.data.path={path}"])
        xla_options.use(networks.tpu_options(stage.networks))
        program = stage.kind.programs(stage)["step"]()
        row = {"name": name, "title": step["title"], "topology": step["topology"], "batch": program.examples}
        row |= {"commit": results.describe_machine()["commit"], "libtpu": metadata.version("libtpu")}
        counted = flops.count(program.function, *program.shapes)
        try:
            compiled = program.compile()
        except jax.errors.JaxRuntimeError as error:
            if (used := costs.read_excess(error)) is None:
                raise
            return row | {"milliseconds": None, "utilisation": None, "bytes": used, "collective_bytes": None}
        estimate = costs.estimate(compiled, chip, counted, devices)
    if programs:
        (programs / f"{name}.hlo").write_text(compiled.as_text())
    print("\n".join(describe.describe(estimate, chip, counted, examples=program.examples, devices=devices)), flush=True)
    is_whole = not estimate.loops_without_trips  # the time of a loop that counts once is no estimate
    return row | {
        "milliseconds": 1e3 * estimate.seconds if is_whole else None,
        "utilisation": estimate.utilisation if is_whole else None,
        "bytes": estimate.memory.peak,
        "collective_bytes": sum(size for _, size in estimate.collectives.values()),
    }


def measure_alone(name: str, programs: pathlib.Path | None) -> dict[str, Any]:
    """Returns the row of a step that a process of its own has compiled, whose memory is then free."""
    more = ["--programs", str(programs)] if programs else []
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([sys.executable, HERE, "--rows", name, "--row-to", file.name, *more], check=True)
        return json.loads(pathlib.Path(file.name).read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=[*STEPS])
    parser.add_argument("--add", nargs="+", type=pathlib.Path, default=[])
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--programs", type=pathlib.Path)
    parser.add_argument("--row-to", type=pathlib.Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    if given.row_to:
        given.row_to.write_text(json.dumps(measure(given.rows[0], given.programs)))
        return
    files = [path for path in (given.write,) if path and path.exists()] + given.add
    rows = {row["name"]: row for path in files for row in results.read(path)["rows"]}
    if given.add:
        write(given.write, rows)
    for name in given.rows or ([] if given.add else [*STEPS]):
        rows[name] = measure_alone(name, given.programs)
        write(given.write, rows)


def write(path: pathlib.Path | None, rows: Mapping[str, dict[str, Any]]) -> None:
    """Writes the rows in the order of the steps, each beside its earlier figures."""
    results.write(path, {"": [add_earlier(rows[step]) for step in STEPS if step in rows]}, columns=COLUMNS)


def add_earlier(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row with the time at 25aba85, and the fraction of the peak by the same FLOPs."""
    before = EARLIER.get(row["name"])
    known = before and row["milliseconds"]
    share = row["utilisation"] * row["milliseconds"] / before if known else None
    return row | {"earlier_milliseconds": before, "earlier_utilisation": share}


if __name__ == "__main__":
    main()
