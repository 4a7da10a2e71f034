"""A sharded run, from its plan to its results."""

import pathlib
import subprocess

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import runs
from jaxdistill import launch
from jaxdistill.pipeline import run
from jaxdistill.stages import train, training_plan
from jaxdistill.train import partitioning

WIDE = "--config.networks.teacher.widths=(256,128)", "--config.networks.student.widths=(64,)"
STREAMED = "--config.data.resident=no"
MESHES = {
    "data": ("--config.sharding=()",),
    "fsdp": ("--config.mesh.data=1", "--config.mesh.fsdp=8", "--config.sharding=fsdp:64"),
    "mixed": (
        *("--config.mesh.data=2", "--config.mesh.fsdp=2", "--config.mesh.tensor=2"),
        "--config.sharding=('tensor', 'fsdp:64')",
        "--config.networks.teacher.sharding=('fsdp:64',)",
    ),
}


def stage(*flags):
    made, _ = launch.parse(["launch", "--config", runs.TINY, *flags])
    return run.prepare(made, pathlib.Path())["distil"]


@pytest.mark.parametrize("mesh", [pytest.param("data", marks=pytest.mark.slow), "fsdp", "mixed"])
def test_the_plan_predicts_what_the_compiled_step_holds(mesh):
    built = stage(*WIDE, STREAMED, *MESHES[mesh])
    predicted = training_plan.device_bytes(built)
    compiled = training_plan.compile_step(built).memory_analysis()
    np.testing.assert_allclose(compiled.argument_size_in_bytes, sum(predicted.values()), rtol=0.02)
    # The state is donated: what comes out is where it was, but for the metrics.
    state = sum(predicted[name] for name in ("parameters", "other variables", "optimizer"))
    np.testing.assert_allclose(compiled.alias_size_in_bytes, state, rtol=0.02)
    whole = 4 * (64 * 256 + 256 * 128 + 128 * 10 + 256 + 128 + 10)
    assert predicted["frozen"] == pytest.approx(whole / {"data": 1, "fsdp": 8, "mixed": 2}[mesh], rel=0.02)


def test_the_plan_tells_what_is_large_and_whole():
    built = stage("--config.networks.teacher.widths=(1031,)", *MESHES["fsdp"][:2], "--config.sharding=fsdp:64")
    assert training_plan.large_replicated(built) == []
    built = stage(
        "--config.networks.teacher.widths=(4099,)", *MESHES["fsdp"], "--config.networks.teacher.sharding=replicated"
    )
    assert training_plan.large_replicated(built) == ["frozen/teacher/params/dense1/kernel (64, 4099), 1.001 MiB"]


@pytest.mark.slow
def test_a_teacher_in_the_hosts_memory_says_the_same(tmp_path, monkeypatch):
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


def test_where_there_is_no_memory_of_the_host_it_is_said(monkeypatch, capsys, tmp_path):
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
