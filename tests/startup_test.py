"""A start imports what its config uses, and nothing heavy besides."""

import json
import subprocess
import sys

import numpy as np

import runs

HEAVY = [
    "tensorflow",
    "torch",
    "tensorflow_datasets",
    "matplotlib",
    "sklearn",
    "scipy.sparse",
    "grain",
    "PIL",
    "pandas",
]

CODE = f"""
import json, sys
from jaxdistill import launch
before = [name for name in {HEAVY} if name in sys.modules]
status = launch.main(sys.argv)
after = [name for name in {HEAVY} if name in sys.modules]
print(json.dumps([status, before, after]))
"""


def test_a_run_on_arrays_imports_no_reader_of_datasets_and_no_plots(tmp_path, one_device):
    draw = np.random.default_rng(0)
    image, label = draw.integers(0, 256, (64, 4, 4, 1), np.uint8), np.arange(64) % 3
    np.savez(
        tmp_path / "data.npz", train_image=image, train_label=label, validation_image=image, validation_label=label
    )
    single = runs.TINY.replace("tiny.py", "single.py")
    words = ["--config", single, "--workdir", str(tmp_path / "run"), "--config.steps=2", "--config.batch=32"]
    words += ["--config.data.name=npz", f"--config.data.path={tmp_path / 'data.npz'}"]
    said = subprocess.run([sys.executable, "-c", CODE, *words], env=one_device, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout.splitlines()[-1]) == [0, [], []]
