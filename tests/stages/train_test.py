"""Stages that train, from the launcher to what their checkpoints hold."""

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
