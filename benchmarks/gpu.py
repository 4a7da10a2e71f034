"""Everything that is worth measuring on one GPU, in under ten minutes: the other scripts, and a whole distillation.

    python benchmarks/gpu.py [--data-dir DIR] [--minutes 10] [--epochs 60] [--rounds 5] [--write benchmarks/results]

Runs residual_step.py, transformer_step.py, lanes.py and cached.py, then ResNet-20 -> ResNet-8 at the scale of CIFAR
(45,000 images; teacher, control and distillation, each over the epochs; `configs/cifar10/kd.py`): on CIFAR-10 where
DIR has it as prepared by TensorFlow Datasets, else on noise of that shape, whose accuracy means nothing. Each
writes `gpu_NAME.json`, numbers with their conditions (device, driver, versions, dtype, date, commit). What does not
fit into the minutes is cut off or left out, and the last table says so. Without a GPU it says so and stops.
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
timing = importlib.import_module("timing")

SCRIPTS = {
    "residual_resnet20": ("residual_step.py", "--pair", "resnet20", "--batch", "64", "128"),
    "residual_resnet32x4": ("residual_step.py", "--pair", "resnet32x4", "--batch", "64", "128"),
    "encoder": ("transformer_step.py", "--kind", "encoder", "--bfloat16", "--dispatch", "8"),
    "decoder": ("transformer_step.py", "--kind", "decoder", "--bfloat16", "--dispatch", "8"),
    "lanes": ("lanes.py",),
    "cached": ("cached.py",),
}
"""name -> the script and its words; it is also told rounds and where to write, if it has `timing.parser`."""

LEFT_FOR_TRAINING = 0.35
"""The share of the time that is kept for the whole distillation."""

COUNTS = {"train": 45_000, "validation": 5_000, "test": 10_000}
"""The images of `configs/cifar10/kd.py`."""


def backend() -> str:
    """What JAX computes on here, asked in a process of its own, which then lets go of the device."""
    asked = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or "nothing"


def run(name: str, words: Sequence[str], seconds: float, printed: pathlib.Path | None = None) -> dict[str, Any]:
    """Runs a command for so long at most; returns a row of what became of it.

    Args:
        printed: a file for what it prints, where it writes none itself.
    """
    began = time.perf_counter()
    if seconds <= 0:
        return {"name": name, "seconds": 0.0, "became": "left out, no time was left"}
    # The parent asks the device for its name, and PyTorch wants memory: none takes all of it.
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    kept = subprocess.PIPE if printed else None
    try:
        done = subprocess.run([sys.executable, *words], timeout=seconds, env=environment, stdout=kept, text=True)
        became = "done" if done.returncode == 0 else f"failed with exit status {done.returncode}"
        if printed and done.returncode == 0:
            results.write(printed, {}, printed=done.stdout)
    except subprocess.TimeoutExpired:
        became = f"cut off after {seconds:.0f} s"
    return {"name": name, "seconds": time.perf_counter() - began, "became": became}


def data_flags(data_dir: str, folder: pathlib.Path) -> list[str]:
    """The flags for CIFAR-10 in a folder, or for noise of its shape, which is written here."""
    if data_dir:
        return [f"--config.data.data_dir={data_dir}"]
    import numpy as np

    draw, arrays = np.random.default_rng(0), {}
    for role, count in COUNTS.items():
        arrays[f"{role}_image"] = draw.integers(0, 256, (count, 32, 32, 3), np.uint8)
        arrays[f"{role}_label"] = draw.integers(0, 10, count).astype(np.int32)
    np.savez(folder / "noise.npz", **arrays)
    named = [f"--config.data.splits.{role}=" for role in COUNTS]
    return ["--config.data.name=npz", f"--config.data.path={folder / 'noise.npz'}", *named]


def distilled(given: Any, seconds: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Runs the whole distillation; returns what became of it, and a row for each stage that was finished."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        words = ["-m", "jaxdistill.launch", "--config", "configs/cifar10/kd.py", "--workdir", str(folder / "run")]
        words += [f"--config.epochs={given.epochs}", f"--config.evaluate.every_epochs={max(given.epochs // 4, 1)}"]
        became = run("distillation", [*words, *data_flags(given.data_dir, folder)], seconds)
        return became, stages(folder / "run", given.epochs * COUNTS["train"])


def stages(workdir: pathlib.Path, images: int) -> list[dict[str, Any]]:
    """A row for each stage of a run that was finished."""
    results = workdir / "results.json"
    accuracy = {row["network"]: row["accuracy"] for row in json.loads(results.read_text())} if results.exists() else {}
    rows = []
    for stage, network in {"teacher": "teacher", "alone": "alone", "distil": "distilled"}.items():
        done = workdir / stage / "done.json"
        if done.exists():
            took = json.loads(done.read_text())["seconds"]
            row = {"name": f"stage {stage}", "seconds": took, "images/s": images / took}
            rows.append(row | ({"accuracy": f"{accuracy[network]:.4f}"} if network in accuracy else {}))
    return rows


def main() -> None:
    parser = timing.make_parser(__doc__, rounds=5)
    parser.set_defaults(write=HERE / "results")
    parser.add_argument("--data-dir", default="", help="where CIFAR-10 is, as TensorFlow Datasets prepares it")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=60)
    given = parser.parse_args()
    found = backend()
    if found != "gpu":
        raise SystemExit(f"no GPU here: JAX computes on {found}; nothing was measured, nothing written")
    began, became = time.perf_counter(), []
    for place, (name, (script, *words)) in enumerate(SCRIPTS.items()):
        left = 60 * given.minutes * (1 - LEFT_FOR_TRAINING) - (time.perf_counter() - began)
        left *= min(1.0, 2 / (len(SCRIPTS) - place))  # one may take twice its part, and none all of it
        if not (HERE / script).exists():
            became.append({"name": name, "seconds": 0.0, "became": f"left out, there is no {script}"})
            continue
        path, writes = given.write / f"gpu_{name}.json", "timing.parser" in (HERE / script).read_text()
        more = ["--rounds", str(given.rounds), "--write", str(path)] if writes else []
        became.append(run(name, [str(HERE / script), *words, *more], left, None if writes else path))
    last, rows = distilled(given, 60 * given.minutes - (time.perf_counter() - began))
    data = "CIFAR-10" if given.data_dir else "noise of CIFAR's shape: accuracies mean nothing"
    title = f"ResNet-20 -> ResNet-8, {given.epochs} epochs of 45,000 images, batch 128, float32, {data}"
    tables = {title: [*rows, {"name": "in all"} | {"seconds": last["seconds"], "became": last["became"]}]}
    results.write(given.write / "gpu_distillation.json", {**tables, "What was run": [*became, last]})


if __name__ == "__main__":
    main()
