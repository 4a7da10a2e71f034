"""Stages that train, from the launcher to what their checkpoints hold."""

import json
import shutil

import numpy as np
import pytest

import runs
from runs import launched

GROUPS = (
    "--config.stages.distil.optimizer.decay_on=kernel$",
    "--config.stages.distil.optimizer.weight_decay=0.1",
    "--config.stages.distil.optimizer.groups.body.pattern=student/dense1",
    "--config.stages.distil.optimizer.groups.body.frozen=true",
    "--config.stages.distil.optimizer.groups.head.pattern=student/head",
    "--config.stages.distil.optimizer.groups.head.learning_rate.to=0.1",
    "--config.stages.distil.optimizer.groups.head.learning_rate.over_fraction=0.5",
)


@pytest.mark.slow
def test_groups_of_the_optimizer_are_sharded_saved_and_resumed_to_the_same_bits(tmp_path):
    flags = (*GROUPS, "--config.checkpoint.every=6", "--config.checkpoint.max_to_keep=9", "--config.mesh.fsdp=2")
    flags += ("--config.sharding=fsdp:8", "--config.evaluate.every=0", "--config.networks.student.widths=8,8")
    assert launched(tmp_path, *flags) == 0
    half, whole = (runs.weights(tmp_path, "distil", step) for step in (6, 12))
    params = [name for name in whole if name.startswith("params.student")]
    kept = [name for name in params if np.array_equal(half[name], whole[name])]
    assert kept == ["params.student.dense1.bias", "params.student.dense1.kernel"]
    assert not any("dense1" in name for name in whole if name.startswith("opt_state"))  # nothing is stored for them
    shutil.rmtree(tmp_path / "distil" / "checkpoints" / "12")
    (tmp_path / "distil" / "done.json").unlink()
    assert launched(tmp_path, *flags) == 0
    for name, value in runs.weights(tmp_path, "distil", 12).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)


ADAPTED = (
    "--config.stages.distil.networks.student.weights=stage:teacher#teacher",
    "--config.networks.student.widths=24,",
    "--config.networks.student.compress.adapt.view=lora",
    "--config.networks.student.compress.adapt.rank=2",
    "--config.networks.student.train=compress/|head/bias",
    "--config.stages.distil.optimizer.weight_decay=0.1",
)


@pytest.mark.slow
def test_adapters_alone_learn_and_a_stopped_run_ends_with_the_same_bits(tmp_path):
    flags = (*ADAPTED, "--config.checkpoint.every=6", "--config.checkpoint.max_to_keep=9")
    assert launched(tmp_path, *flags) == 0
    teacher, half, whole = (
        runs.weights(tmp_path, stage, step) for stage, step in (("teacher", 12), ("distil", 6), ("distil", 12))
    )
    names = [name for name in whole if name.startswith("params.student")]
    learned = [name.removeprefix("params.student.") for name in names if not np.array_equal(half[name], whole[name])]
    adapters = [f"compress.adapt.dense1.kernel_{part}" for part in ("down", "up")]
    assert learned == [*adapters, "head.bias"]
    for part in ("dense1.kernel", "dense1.bias", "head.kernel"):
        np.testing.assert_array_equal(whole[f"params.student.{part}"], teacher[f"params.teacher.{part}"])
    assert not any("dense1.bias" in name for name in whole if name.startswith("opt_state"))
    shutil.rmtree(tmp_path / "distil" / "checkpoints" / "12")
    (tmp_path / "distil" / "done.json").unlink()
    assert launched(tmp_path, *flags) == 0
    for name, value in runs.weights(tmp_path, "distil", 12).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("compres/", "networks.student.train must match the path of a parameter, got 'compres/'. The nearest of"),
        ("student", "networks.student.train must leave out a parameter, got 'student', which matches all"),
        ("(", "networks.student.train must be a regular expression"),
    ],
)
def test_a_part_that_cannot_learn_is_refused(tmp_path, capsys, pattern, message):
    assert launched(tmp_path / "run", f"--config.stages.distil.networks.student.train={pattern}", "--plan") == 2
    assert message in capsys.readouterr().err


STUDENTS = ("small", "wide", "deep")


@pytest.mark.slow
def test_several_students_are_each_as_in_a_run_of_its_own_and_resume_to_the_same_bits(tmp_path):
    students = str(runs.TINY).replace("tiny.py", "students.py")
    flags = ("--config.stages.distil.checkpoint.max_to_keep=9",)
    assert launched(tmp_path / "all", *flags, config=students) == 0
    together = runs.weights(tmp_path / "all", "distil", 12)
    done = json.loads((tmp_path / "all" / "distil" / "done.json").read_text())
    for name in STUDENTS:
        assert launched(tmp_path / name, *flags, config=f"{students}:{name}") == 0
        alone = runs.weights(tmp_path / name, "distil", 12)
        params = [key for key in alone if key.startswith(f"params.{name}.")]
        assert len(params) >= 4
        for key in params:
            np.testing.assert_allclose(together[key], alone[key], rtol=1e-4, atol=1e-6, err_msg=key)
        own = json.loads((tmp_path / name / "distil" / "done.json").read_text())
        assert done["selected"][name] == {"step": own["step"], "by": f"{name}/accuracy"}
        rows = {row["network"]: row for row in runs.results(tmp_path / "all")}
        (row,) = (row for row in runs.results(tmp_path / name) if row["network"] == name)
        assert rows[name]["accuracy"] == pytest.approx(row["accuracy"], abs=1e-6)
    shutil.rmtree(tmp_path / "all" / "distil" / "checkpoints" / "12")
    (tmp_path / "all" / "distil" / "done.json").unlink()
    assert launched(tmp_path / "all", *flags, config=students) == 0
    for name, value in runs.weights(tmp_path / "all", "distil", 12).items():
        np.testing.assert_array_equal(value, together[name], err_msg=name)
