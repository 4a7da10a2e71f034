"""The measurements for one GPU: cut off in time, and refused without a GPU."""

import importlib
import json
import subprocess
import sys

import pytest

from conftest import ROOT
from jaxdistill import launch

HERE = ROOT / "benchmarks"
sys.path.insert(0, str(HERE))
gpu = importlib.import_module("gpu")


def test_without_a_gpu_nothing_is_written(tmp_path):
    words = [sys.executable, str(HERE / "gpu.py"), "--write", str(tmp_path / "results")]
    done = subprocess.run(
        words, capture_output=True, text=True, env={"JAX_PLATFORMS": "cpu", "PATH": "", "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "no GPU here: JAX computes on cpu; nothing was measured, nothing written"
    assert not (tmp_path / "results").exists()


def test_a_script_that_does_not_fit_into_the_time_is_cut_off():
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"][1:]
    assert gpu.run("it", sleeping, 0.5)["outcome"] == "cut off after 0 s"
    assert gpu.run("it", sleeping, -1)["outcome"] == "left out, no time was left"
    assert gpu.run("it", ["-c", "raise SystemExit(3)"], 60)["outcome"] == "failed with exit status 3"
    assert gpu.run("it", ["-c", "pass"], 60)["outcome"] == "done"


def test_a_finished_run_has_a_row_for_each_stage(tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "done.json").write_text(json.dumps({"seconds": 2.0}))
    assert gpu.read_stages(tmp_path, 100) == [{"name": "stage teacher", "seconds": 2.0, "images/s": 50.0}]
    (tmp_path / "results.json").write_text(json.dumps([{"network": "teacher", "accuracy": 0.91234}]))
    assert gpu.read_stages(tmp_path, 100)[0]["accuracy"] == 0.91234


@pytest.mark.parametrize("folder", ["", "somewhere"])
def test_the_flags_of_the_whole_distillation_are_keys_of_its_config(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(gpu, "COUNTS", dict.fromkeys(gpu.COUNTS, 16))
    stages, _ = launch.parse(["launch", "--config", "configs/cifar10/kd.py", *gpu.make_data_flags(folder, tmp_path)])
    for settings in stages.values():
        data = settings.data
        assert data.name == ("cifar10" if folder else "npz")
        splits = (data.splits.train, data.splits.validation, data.splits.test)
        assert (data.data_dir, any(splits)) == (folder, bool(folder))


@pytest.mark.parametrize("script", sorted({script for script, *_ in gpu.SCRIPTS.values()}))
def test_every_script_takes_rounds_and_write(script):
    assert "timing.make_parser(" in (HERE / script).read_text()
