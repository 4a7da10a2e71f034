"""The page of benchmarks: its tables are the files', its commands the scripts'; and a machine without a GPU is told."""

import importlib
import json
import re
import subprocess
import sys

import pytest

from conftest import ROOT
from jaxdistill import launch

HERE = ROOT / "benchmarks"
sys.path.insert(0, str(HERE))
page, gpu = importlib.import_module("page"), importlib.import_module("gpu")

ROWS = [{"what": "ours", "ms": 12.5, "ratio": 2.0, "from": 1.9, "to": 2.1}]


def test_a_table_is_filled_from_its_file(tmp_path):
    said = {"conditions": {"device": "one", "load": 0.5}, "note": "quiet", "tables": {"A step": ROWS}}
    (tmp_path / "one.json").write_text(json.dumps(said))
    text = "before\n<!-- results: one.json -->\nold\n<!-- end -->\n<!-- results: two.json -->\n<!-- end -->\nafter"
    written = page.filled(text, tmp_path)
    assert "old" not in written
    assert "A step:\n\n| what | ms | ratio |\n" in written
    assert "| ours | 12.5 | 2.00 (1.90-2.10) |" in written
    assert "Measured: device one; load 0.5; note quiet." in written
    assert written.endswith(f"<!-- results: two.json -->\n{page.NOTHING}\n<!-- end -->\nafter")
    assert page.filled(written, tmp_path) == written


def test_the_page_says_what_the_results_say():
    text = (HERE / "README.md").read_text()
    assert page.filled(text, HERE / "results") == text, "run python benchmarks/page.py"


def test_every_result_has_its_place_on_the_page():
    named = set(re.findall(r"<!-- results: (\S+) -->", (HERE / "README.md").read_text()))
    assert {path.name for path in (HERE / "results").glob("*.json")} <= named
    assert {f"gpu_{name}.json" for name in gpu.SCRIPTS} <= named


def test_every_script_is_on_the_page_with_its_command():
    text = (HERE / "README.md").read_text()
    commands = set(re.findall(r"python benchmarks/(\w+\.py)", text))
    runnable = {path.name for path in HERE.glob("*.py") if "__main__" in path.read_text()}
    assert runnable <= commands


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    words = [sys.executable, str(HERE / "gpu.py"), "--write", str(tmp_path / "results")]
    done = subprocess.run(words, capture_output=True, text=True, env={"JAX_PLATFORMS": "cpu", "PATH": ""})
    assert done.returncode == 1
    assert done.stderr.strip() == "no GPU here: JAX computes on cpu; nothing was measured, nothing written"
    assert not (tmp_path / "results").exists()


def test_what_does_not_fit_into_the_time_is_cut_off_and_told():
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"][1:]
    assert gpu.run("it", sleeping, 0.5)["became"] == "cut off after 0 s"
    assert gpu.run("it", sleeping, -1)["became"] == "left out, no time was left"
    assert gpu.run("it", ["-c", "raise SystemExit(3)"], 60)["became"] == "failed with exit status 3"
    assert gpu.run("it", ["-c", "pass"], 60)["became"] == "done"


def test_a_finished_run_is_told_stage_by_stage(tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "done.json").write_text(json.dumps({"seconds": 2.0}))
    assert gpu.stages(tmp_path, 100) == [{"what": "stage teacher", "seconds": 2.0, "images/s": 50.0}]
    (tmp_path / "results.json").write_text(json.dumps([{"network": "teacher", "accuracy": 0.91234}]))
    assert gpu.stages(tmp_path, 100)[0]["accuracy"] == "0.9123"


@pytest.mark.parametrize("folder", ["", "somewhere"])
def test_the_scale_run_has_flags_that_the_config_knows(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(gpu, "COUNTS", dict.fromkeys(gpu.COUNTS, 16))
    config, _ = launch.parse(["launch", "--config", "configs/cifar10/kd.py", *gpu.data_flags(folder, tmp_path)])
    assert config.data.name == ("cifar10" if folder else "npz")
    assert (config.data.data_dir, any(config.data.splits.values())) == (folder, bool(folder))


def test_what_a_script_prints_is_kept_where_it_writes_nothing(tmp_path):
    became = gpu.run("it", ["-c", "print('0.5 times')"], 60, tmp_path / "it.json")
    assert became["became"] == "done"
    assert "```text\n0.5 times\n```" in page.section(json.loads((tmp_path / "it.json").read_text()))
