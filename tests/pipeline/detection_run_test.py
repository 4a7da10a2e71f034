"""Runs of detection on eight devices: caches, lanes, accumulation, one device, a stop and an export."""

import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import runs
from jaxdistill.errors import UserError
from jaxdistill.export.loaded import open_export

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "detected.py")
pytestmark = pytest.mark.slow


def launched(workdir, *flags, mode=""):
    assert runs.launched(workdir, *flags, config=CONFIG + mode) == 0
    return workdir


def losses(workdir, stage):
    return [line["loss"] for line in runs.lines(workdir) if line["stage"] == stage and "loss" in line]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return launched(tmp_path_factory.mktemp("run") / "whole", mode=":export")


def test_results_have_the_precision_and_the_pictures_of_the_report(run):
    teacher, student = runs.results(run)
    assert 0 <= teacher["map"] <= teacher["map50"] <= 1
    assert np.isfinite([student[name] for name in ("map", "map50", "map75", "map_small")]).all()
    with np.load(run / "predictions.npz") as arrays:
        assert arrays["boxes/student"].shape == (8, 100, 4)
        assert arrays["sheet/boxes"].shape[-1] == 4
    page = (run / "report.html").read_text()
    assert page.count('class="strip"') == 8
    assert "average precision of every class" in page


def test_an_exported_detector_gives_boxes_and_scores_of_every_location(run):
    network = open_export(run / "export" / "student")
    values = network(np.zeros((2, 32, 32, 3), np.uint8))
    assert values.shape == (2, 8 * 8 + 4 * 4, 4 + 5)
    assert ((values[..., 4:] > 0) & (values[..., 4:] < 1)).all()
    assert network.detections(np.zeros((2, 32, 32, 3), np.uint8)).boxes.shape == (2, 100, 4)
    with pytest.raises(UserError, match="must be of a network that predicts classes"):
        network.probabilities(np.zeros((2, 32, 32, 3), np.uint8))


def test_a_cached_teacher_teaches_as_the_live_one(tmp_path):
    launched(tmp_path, mode=":cached")
    np.testing.assert_allclose(losses(tmp_path, "read"), losses(tmp_path, "live"), rtol=1e-4)


def test_micro_batches_have_the_loss_of_the_batch(run, tmp_path):
    launched(tmp_path, "--config.accumulate=2")
    np.testing.assert_allclose(losses(tmp_path, "distil"), losses(run, "distil"), rtol=1e-4)


def test_a_normaliser_of_the_batch_is_refused_with_accumulation(tmp_path):
    flags = "--config.accumulate=2", "--config.terms.task.normalizer=batch", "--plan"
    assert runs.launched(tmp_path, *flags, config=CONFIG) == 2


def test_lanes_are_runs_of_their_own(run, tmp_path):
    launched(tmp_path, "--config.sweep.seed=(0, 1)")
    first = next(line for line in runs.lines(tmp_path) if line["stage"] == "distil")
    assert first["0/loss"] == pytest.approx(losses(run, "distil")[0], rel=1e-4)
    assert first["1/loss"] != pytest.approx(first["0/loss"], rel=1e-4)
    assert all(np.isfinite(row["map"]) for row in runs.results(tmp_path))


def test_eight_devices_have_the_losses_of_one(run, tmp_path, one_device):
    command = [sys.executable, "-m", "jaxdistill.launch", "--config", CONFIG, "--workdir", str(tmp_path)]
    subprocess.run(command, env=one_device, check=True, capture_output=True)
    np.testing.assert_allclose(losses(tmp_path, "distil"), losses(run, "distil"), rtol=1e-3)
    for one, eight in zip(runs.results(tmp_path), runs.results(run), strict=True):
        assert one["map50"] == pytest.approx(eight["map50"], abs=1e-3)


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(run, tmp_path):
    flags = ("--config.checkpoint.every=1",)
    assert runs.launched(tmp_path, *flags, config=CONFIG, stop=runs.stop_at(7)) == 128 + signal.SIGTERM
    launched(tmp_path, *flags)
    assert losses(tmp_path, "distil")[-1] == pytest.approx(losses(run, "distil")[-1], rel=1e-6)
