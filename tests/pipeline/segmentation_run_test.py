"""Runs of segmentation: caches, lanes, accumulation, devices, a stop and an export."""

import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import runs
from conftest import ROOT
from jaxdistill.export.loaded import open_export

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "segmented.py")
pytestmark = pytest.mark.slow


def launched(workdir, *flags, mode=""):
    assert runs.launched(workdir, *flags, config=CONFIG + mode) == 0
    return workdir


def losses(workdir, stage):
    return [line["loss"] for line in runs.lines(workdir) if line["stage"] == stage and "loss" in line]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return launched(tmp_path_factory.mktemp("run") / "whole")


def test_results_have_the_metrics_of_pixels_and_the_pictures_of_the_report(run):
    teacher, student = runs.results(run)
    assert 0 < teacher["mean_iou"] < 1
    assert np.isfinite(
        [student[name] for name in ("mean_iou", "accuracy", "boundary_f1", "nll", "agreement", "kl")]
    ).all()
    with np.load(run / "predictions.npz") as arrays:
        assert arrays["sheet/label_map"].shape == arrays["label_map/student"].shape == (8, 16, 16)
    page = (run / "report.html").read_text()
    assert page.count('class="strip"') == 8
    assert "IoU of every class" in page


def test_windows_of_the_whole_image_change_nothing(run, tmp_path):
    whole = launched(tmp_path, "--config.stages.evaluate.evaluate.window=(16, 16)")
    for one, two in zip(runs.results(run), runs.results(whole), strict=True):
        numbers = [name for name, value in one.items() if isinstance(value, float)]
        assert "mean_iou" in numbers
        np.testing.assert_allclose([one[name] for name in numbers], [two[name] for name in numbers], rtol=1e-5)
    assert runs.launched(tmp_path, "--plan", "--config.evaluate.window=(17, 16)", config=CONFIG) == 2


def test_a_cached_teacher_teaches_as_the_live_one(tmp_path):
    launched(tmp_path, mode=":cached")
    np.testing.assert_allclose(losses(tmp_path, "read"), losses(tmp_path, "distil"), rtol=1e-4)


def test_micro_batches_have_the_loss_of_the_batch(tmp_path):
    """BatchNorm normalises by the micro-batch, so that the losses are about the same."""
    whole, parts = (
        losses(launched(tmp_path / str(count), "--config.batch=16", f"--config.accumulate={count}"), "teacher")
        for count in (1, 2)
    )
    np.testing.assert_allclose(parts[0], whole[0], rtol=0.1)
    assert parts != whole


def test_lanes_are_runs_of_their_own(run, tmp_path):
    launched(tmp_path, "--config.sweep.seed=(0, 1)")
    first = next(line for line in runs.lines(tmp_path) if line["stage"] == "distil")
    assert first["0/loss"] == pytest.approx(losses(run, "distil")[0], rel=1e-4)
    assert first["1/loss"] != pytest.approx(first["0/loss"], rel=1e-4)


def test_two_devices_have_the_losses_of_eight(run, tmp_path, one_device):
    paths = (str(pathlib.Path(CONFIG).parents[1]), one_device.get("PYTHONPATH", ""))
    environment = {**one_device, "JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": ":".join(paths)}
    words = ["-m", "jaxdistill.launch", "--config", CONFIG, "--workdir", str(tmp_path)]
    subprocess.run([sys.executable, *words], env=environment, check=True, cwd=ROOT)
    np.testing.assert_allclose(losses(tmp_path, "distil"), losses(run, "distil"), rtol=1e-3)


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(run, tmp_path):
    assert runs.launched(tmp_path, config=CONFIG, stop=runs.stop_at(7)) == 128 + signal.SIGTERM
    launched(tmp_path)
    assert losses(tmp_path, "distil")[-1] == losses(run, "distil")[-1]


def test_an_exported_network_predicts_every_pixel(tmp_path):
    launched(tmp_path, mode=":export")
    network = open_export(tmp_path / "export" / "student")
    assert network(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 16, 16, 3)
