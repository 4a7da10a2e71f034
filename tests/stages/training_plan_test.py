"""The plan of a training stage: bytes of a device, and large arrays."""

import pathlib

import numpy as np
import pytest

from jaxdistill.pipeline import run
from jaxdistill.stages import training_plan
from meshes import MESHES, STREAMED, WIDE
from runs import parsed


def stage(*flags):
    return run.prepare(parsed(*flags), pathlib.Path())["distil"]


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [pytest.param("data", marks=pytest.mark.slow), "fsdp", "mixed"])
def test_predicted_bytes_are_those_of_the_compiled_step(mesh):
    built = stage(*WIDE, STREAMED, *MESHES[mesh])
    predicted = training_plan.device_bytes(built)
    compiled = training_plan.step_program(built).compile().memory_analysis()
    np.testing.assert_allclose(compiled.argument_size_in_bytes, sum(predicted.values()), rtol=0.02)
    # The state is donated: what comes out is where it was, but for the metrics.
    state = sum(predicted[name] for name in ("parameters", "other variables", "optimizer"))
    np.testing.assert_allclose(compiled.alias_size_in_bytes, state, rtol=0.02)
    whole = 4 * (64 * 256 + 256 * 128 + 128 * 10 + 256 + 128 + 10)
    assert predicted["frozen"] == pytest.approx(whole / {"data": 1, "fsdp": 8, "mixed": 2}[mesh], rel=0.02)


def test_large_arrays_that_no_rule_splits_are_listed():
    built = stage("--config.networks.teacher.widths=(1031,)", *MESHES["fsdp"][:2], "--config.sharding=fsdp:64")
    assert training_plan.large_replicated(built) == []
    built = stage(
        "--config.networks.teacher.widths=(4099,)", *MESHES["fsdp"], "--config.networks.teacher.sharding=replicated"
    )
    assert training_plan.large_replicated(built) == ["frozen/teacher/params/dense1/kernel (64, 4099), 1.001 MiB"]


def test_a_terms_weight_is_a_number_or_its_first_and_last_value():
    built = stage("--config.terms.kd.weight.start=0.5", "--config.terms.kd.weight.to=2.0")
    lines = training_plan.describe(built)
    assert [line.split(", ")[1] for line in lines if line.startswith("    kd:")] == ["weight 0.5 -> 2"]
    assert [line.split(", ")[1] for line in lines if line.startswith("    task:")] == ["weight 1"]
