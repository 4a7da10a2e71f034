"""A sharded run, from its plan to its results."""

import subprocess

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import runs
from jaxdistill.stages import train
from jaxdistill.train import partitioning
from meshes import MESHES


@pytest.mark.slow
def test_a_teacher_in_host_memory_has_the_same_outputs(tmp_path, monkeypatch):
    """Every process has its part of it there; it is brought to the device in the step, and in an evaluation."""
    seen, fit = {}, train.fit

    def watched(job, state, frozen, **more):
        seen.update(frozen)
        state = fit(job, state, frozen, **more)
        # What the steps give back is where it was planned to be, nothing of it whole where it was split.
        seen["stays"] = jax.tree.all(jax.tree.map(lambda x, where: x.sharding == where, state, job.shardings))
        return state

    monkeypatch.setattr(train, "fit", watched)
    short = "--config.steps=3", "--config.log_every=1", "--config.evaluate.every=0", "--config.optimizer.name=sgd"
    keep = "--config.stages.distil.checkpoint.keep=last"
    assert runs.launched(tmp_path / "plain", *short, keep) == 0
    away = (
        "--config.stages.distil.networks.teacher.offload=True",
        "--config.stages.evaluate.networks.teacher.offload=True",
    )
    assert runs.launched(tmp_path / "away", *short, keep, *away, *MESHES["fsdp"]) == 0
    for one, two in zip(runs.lines(tmp_path / "plain"), runs.lines(tmp_path / "away"), strict=True):
        for key, value in one.items():
            if isinstance(value, float):
                np.testing.assert_allclose(two[key], value, rtol=1e-4, err_msg=f"{one['stage']} {one['step']} {key}")
    assert seen["stays"]
    kernel = seen["teacher"]["params"]["dense1"]["kernel"]
    assert kernel.sharding.spec == P("fsdp", None)
    assert kernel.sharding.memory_kind == partitioning.HOST
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(8, 24)}


def test_offloading_without_host_memory_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(partitioning, "HOST", "elsewhere")
    flags = "--plan", "--config.stages.distil.networks.teacher.offload=True"
    assert runs.launched(tmp_path, *flags) == 2
    assert "have no memory 'elsewhere', only" in capsys.readouterr().err


@pytest.mark.slow
def test_a_plan_for_more_devices_than_there_are(one_device):
    words = runs.command("", "--plan", "--devices=64", "--config.mesh.fsdp=8", "--config.sharding=fsdp:64")
    said = subprocess.run(words, env=one_device, check=True, capture_output=True, text=True).stdout
    assert "{'data': 8, 'fsdp': 8, 'tensor': 1}" in said


def test_devices_are_for_a_plan(tmp_path, capsys):
    assert runs.launched(tmp_path, "--devices=64") == 2
    assert "--devices=64 is for --plan alone" in capsys.readouterr().err
