"""Measurements for one GPU in under ten minutes: the other scripts, and a whole distillation.

    python benchmarks/gpu.py [--data-dir DIR] [--minutes 10] [--epochs 60] [--rounds 5] [--write docs/results]

Runs residual_step.py, transformer_step.py, lanes.py and cached.py, then ResNet-20 -> ResNet-8 at the scale of CIFAR
(45,000 images; teacher, control and distillation, each over the epochs; `configs/cifar10/kd.py`): on CIFAR-10 if DIR
has it as prepared by TensorFlow Datasets, else on noise of that shape, whose accuracy means nothing. Each writes
`gpu_NAME.json` in the form of `results.py`. A script that does not fit into the minutes is cut off or left out, and
the last table records it. Without a GPU nothing is measured.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import results
import timing

HERE = pathlib.Path(__file__).parent

SCRIPTS = {
    "residual_resnet20": ("residual_step.py", "--pair", "resnet20", "--batch", "64", "128"),
    "residual_resnet32x4": ("residual_step.py", "--pair", "resnet32x4", "--batch", "64", "128"),
    "encoder": ("transformer_step.py", "--kind", "encoder", "--bfloat16", "--dispatch", "8"),
    "decoder": ("transformer_step.py", "--kind", "decoder", "--bfloat16", "--dispatch", "8"),
    "lanes": ("lanes.py",),
    "cached": ("cached.py",),
}
"""name -> the script and its arguments, besides --rounds and --write."""

LEFT_FOR_TRAINING = 0.35
"""The fraction of the time that is reserved for the whole distillation."""

COUNTS = {"train": 45_000, "validation": 5_000, "test": 10_000}
"""The images of `configs/cifar10/kd.py`."""


def find_backend() -> str:
    """Returns JAX's backend, found in a process of its own, which then releases the device."""
    command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "none"


def run(name: str, words: Sequence[str], seconds: float) -> dict[str, Any]:
    """Runs a command for these seconds at most; returns a row with its outcome."""
    began = time.perf_counter()
    if seconds <= 0:
        return {"name": name, "seconds": 0.0, "outcome": "left out, no time was left"}
    # The parent uses the device too, and PyTorch needs memory: no process may take all of it.
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        done = subprocess.run([sys.executable, *words], timeout=seconds, env=environment)
        outcome = "done" if done.returncode == 0 else f"failed with exit status {done.returncode}"
    except subprocess.TimeoutExpired:
        outcome = f"cut off after {seconds:.0f} s"
    return {"name": name, "seconds": time.perf_counter() - began, "outcome": outcome}


def make_data_flags(data_dir: str, folder: pathlib.Path) -> list[str]:
    """Returns the flags for CIFAR-10 in a folder, or for noise of its shape, which is written here."""
    if data_dir:
        return [f"--config.data.data_dir={data_dir}"]
    import numpy as np

    draw, arrays = np.random.default_rng(0), {}
    for role, count in COUNTS.items():
        arrays[f"{role}_image"] = draw.integers(0, 256, (count, 32, 32, 3), np.uint8)
        arrays[f"{role}_label"] = draw.integers(0, 10, count).astype(np.int32)
    np.savez(folder / "noise.npz", **arrays)
    splits = [f"--config.data.splits.{role}=" for role in COUNTS]
    return ["--config.data.name=npz", f"--config.data.path={folder / 'noise.npz'}", *splits]


def distil(given: argparse.Namespace, seconds: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Runs the whole distillation; returns its outcome, and a row for each finished stage."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        words = ["-m", "jaxdistill.launch", "--config", "configs/cifar10/kd.py", "--workdir", str(folder / "run")]
        words += [f"--config.epochs={given.epochs}", f"--config.evaluate.every_epochs={max(given.epochs // 4, 1)}"]
        outcome = run("distillation", [*words, *make_data_flags(given.data_dir, folder)], seconds)
        return outcome, read_stages(folder / "run", given.epochs * COUNTS["train"])


def read_stages(workdir: pathlib.Path, images: int) -> list[dict[str, Any]]:
    """Returns a row for each finished stage of a run."""
    path = workdir / "results.json"
    accuracy = {row["network"]: row["accuracy"] for row in json.loads(path.read_text())} if path.exists() else {}
    rows = []
    for stage, network in {"teacher": "teacher", "alone": "alone", "distil": "distilled"}.items():
        done = workdir / stage / "done.json"
        if done.exists():
            took = json.loads(done.read_text())["seconds"]
            row = {"name": f"stage {stage}", "seconds": took, "images/s": images / took}
            rows.append(row | ({"accuracy": accuracy[network]} if network in accuracy else {}))
    return rows


def main() -> None:
    parser = timing.make_parser(__doc__, rounds=5)
    parser.set_defaults(write=results.FOLDER)
    parser.add_argument("--data-dir", default="", help="the folder of CIFAR-10 as prepared by TensorFlow Datasets")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=60)
    given = parser.parse_args()
    backend = find_backend()
    if backend != "gpu":
        raise SystemExit(f"no GPU here: JAX computes on {backend}; nothing was measured, nothing written")
    began, outcomes = time.perf_counter(), []
    for number, (name, (script, *words)) in enumerate(SCRIPTS.items()):
        left = 60 * given.minutes * (1 - LEFT_FOR_TRAINING) - (time.perf_counter() - began)
        left *= min(1.0, 2 / (len(SCRIPTS) - number))  # at most twice its part
        options = ["--rounds", str(given.rounds), "--write", str(given.write / f"gpu_{name}.json")]
        outcomes.append(run(name, [str(HERE / script), *words, *options], left))
    last, rows = distil(given, 60 * given.minutes - (time.perf_counter() - began))
    data = "CIFAR-10" if given.data_dir else "noise of CIFAR's shape: accuracies mean nothing"
    title = f"ResNet-20 -> ResNet-8, {given.epochs} epochs of 45,000 images, batch 128, float32, {data}"
    tables = {title: [*rows, {"name": "in total"} | {"seconds": last["seconds"], "outcome": last["outcome"]}]}
    results.write(given.write / "gpu_distillation.json", {**tables, "Outcomes": [*outcomes, last]})


if __name__ == "__main__":
    main()
