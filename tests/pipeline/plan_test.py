"""The plan of a run."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from configs_test import FILES, smoke_stand_in
from jaxdistill import networks
from jaxdistill.pipeline import plan, run
from jaxdistill.runtime import xla_options
from runs import TINY, parsed


def test_a_stage_is_described_by_its_data_and_its_networks():
    stages = run.prepare(parsed(), pathlib.Path("nowhere"))
    stage = stages["evaluate"]
    assert [[*stages[name].kind.programs(stages[name])] for name in ("distil", "evaluate")] == [
        ["step", "evaluation"],
        ["evaluation"],
    ]
    lines = "\n".join(plan.describe(stage))
    assert "stage evaluate (evaluate)" in lines
    assert "data: digits test, 360 examples of (8, 8, 1), 10 classes" in lines
    assert "teacher: frozen from stage:teacher, 1,810 parameters, 3,552 FLOPs per example" in lines
    assert "slow: frozen from stage:distil, 610 parameters" in lines
    assert "taps hidden1 (24,), pooled (24,)" in lines


def test_programs_of_a_stage_have_the_options_of_its_models(monkeypatch, tmp_path):
    names = []
    monkeypatch.setattr(networks, "tpu_options", lambda of_stage: {"networks": " ".join(of_stage)})
    monkeypatch.setattr(xla_options, "use", lambda options: names.append(options["networks"]))
    monkeypatch.setattr(plan, "_compile", lambda stage: iter(()))
    plan.show({"teacher": parsed()["teacher"]}, tmp_path)
    run.run({"teacher": parsed()["teacher"]}, tmp_path)
    assert names == ["teacher"] * 2


COMPILERS = {"v5e:2x2": "libtpu", "h100:1": "jax_plugins"}
"""Topologies, and a module that the compiler for each brings."""


@pytest.mark.slow
@pytest.mark.parametrize("target", COMPILERS)
@pytest.mark.parametrize("file", [TINY, *FILES])
def test_every_config_compiles_for_devices_that_are_absent(file, target, tmp_path):
    if not importlib.util.find_spec(COMPILERS[target]):
        pytest.skip(f"without the compiler for {target}: pip install 'jaxdistill[tpu,cuda-compile]'")
    flags = []
    if file != TINY:
        flags, file = smoke_stand_in(tmp_path, file), f"{file}:smoke"
    words = [sys.executable, "-m", "jaxdistill.launch", "--config", file, *flags, "--config.mesh.data=-1"]
    # A process of its own: tests run on a CPU of eight devices, with options that other compilers refuse.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    }
    ended = subprocess.run([*words, "--plan", f"--topology={target}"], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count(": fits") >= 1
    assert "costliest operations:" in ended.stdout
