"""Lanes: several runs of a stage in one program, each the run that its own settings would be."""

import signal

import numpy as np
import pytest

import runs
from jaxdistill import sweep
from jaxdistill.errors import UserError
from jaxdistill.train.stop import Stop
from runs import launched

PARTS = str(runs.TINY).replace("tiny.py", "parts.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("lanes")
    assert launched(workdir, config=PARTS) == 0
    return workdir


def assert_separate(whole, tmp_path, mode=""):
    together = runs.weights(whole, "teachers", 6)
    for lane, (seed, part) in enumerate([(0, 0), (1, 1), (1, 2)]):
        flags = [f"--config.stages.teachers.seed={seed}", f"--config.stages.teachers.data.partition.part={part}"]
        assert launched(tmp_path / str(lane), *flags, config=f"{PARTS}:single{mode}") == 0
        alone = runs.weights(tmp_path / str(lane), "teachers", 6)
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][lane], value, rtol=2e-4, atol=2e-5, err_msg=name)


def test_lanes_are_the_separate_runs(whole, tmp_path):
    """Seed, part of the data, augmentation, dropout: all are those of the single run."""
    assert_separate(whole, tmp_path)


@pytest.mark.slow
def test_lanes_of_convolutions_are_the_separate_runs(tmp_path):
    """With batch statistics; by SGD, since Adam makes steps of gradients that are rounding alone."""
    assert launched(tmp_path / "whole", config=f"{PARTS}:conv") == 0
    assert_separate(tmp_path / "whole", tmp_path, "conv")


def test_lanes_are_logged_each_and_in_the_mean(whole):
    for line in runs.lines(whole):
        if line["stage"] != "teachers":
            continue
        for name in ("loss", "teacher/accuracy"):
            if name in line:
                np.testing.assert_allclose(line[name], np.mean([line[f"{k}/{name}"] for k in range(3)]), rtol=1e-5)
    assert any("2/teacher/accuracy" in line for line in runs.lines(whole))


def test_weights_name_a_lane(whole):
    """The evaluation's three networks are the three lanes."""
    accuracies = {row["network"]: row["accuracy"] for row in runs.results(whole)}
    last = [line for line in runs.lines(whole) if "2/teacher/accuracy" in line][-1]
    assert last["split"] == "validation"
    assert len({accuracies[f"part{k}"] for k in range(3)}) > 1
    for k in range(3):
        np.testing.assert_allclose(accuracies[f"part{k}"], last[f"{k}/teacher/accuracy"], rtol=1e-5)


@pytest.mark.parametrize("flags", [(), ("--config.data.resident=no", "--config.dispatch=2")], ids=["", "streamed"])
def test_lanes_resume_and_stream(whole, tmp_path, monkeypatch, flags):
    def asked(self, step):
        self.signal = signal.SIGTERM if step == 5 else None
        return self.signal is not None

    monkeypatch.setattr(Stop, "asked", asked)
    assert launched(tmp_path, *flags, config=PARTS) == 128 + signal.SIGTERM
    monkeypatch.undo()
    assert launched(tmp_path, *flags, config=PARTS) == 0
    again, before = runs.weights(tmp_path, "teachers", 6), runs.weights(whole, "teachers", 6)
    for name, value in before.items():
        np.testing.assert_allclose(again[name], value, rtol=2e-4 * bool(flags), atol=2e-5 * bool(flags), err_msg=name)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.stages.evaluate.networks.part0.weights=stage:teachers#teacher", "was trained in 3 lanes; name one"),
        ("--config.stages.evaluate.networks.part0.weights=stage:teachers@3", "from ...@0 to ...@2"),
        ("--config.stages.teachers.sweep.seed=(0, 1)", "all have one for each lane"),
        ("--config.stages.teachers.sweep.seed=(0, 1, 0.5)", "no list of whole numbers"),
    ],
)
def test_mistakes_are_told(tmp_path, capsys, flag, message):
    assert launched(tmp_path, flag, config=PARTS) == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_swept_is_told():
    with pytest.raises(UserError, match=r"no setting of stage 's' that can be swept: 'data.partition.parts'; did you"):
        sweep.lanes("s", {"kind": "train", "sweep": {"data": {"partition": {"parts": (0, 1)}}}})
    with pytest.raises(UserError, match="only training is done in lanes"):
        sweep.lanes("s", {"kind": "merge", "sweep": {"seed": (0, 1)}})
