"""Changes of settings that save memory."""

import dataclasses
import pathlib

import pytest

from jaxdistill.estimate.chips import Chip
from jaxdistill.pipeline import run, savings
from runs import parsed

LANGUAGE = str(pathlib.Path(__file__).parents[1] / "configs" / "language.py")
CHIP = Chip("TPU v5 lite", 1.0, clock=1e9, bandwidth=1e9, memory=1 << 20)
CONFIG = parsed("--config.terms.kd.chunk=0", config=LANGUAGE)


def rebuild(settings):
    return run.build_stages({"teacher": CONFIG["teacher"], "live": settings}, pathlib.Path())["live"]


@pytest.fixture(scope="module")
def stage():
    return rebuild(CONFIG["live"])


def test_each_change_is_one_that_the_stage_has_not_made(stage):
    changes = {change.keys: change.settings for change in savings.list_changes(stage)}
    assert [*changes] == [
        "networks.student.remat=block",
        "networks.student.dtype=bfloat16, networks.teacher.dtype=bfloat16",
        "sharding=fsdp mesh.data=1 mesh.fsdp=-1",
        "terms.kd.chunk=512",
        "accumulate=2",
        "all of these",
    ]
    every = changes["all of these"]
    assert (every.accumulate, every.sharding, every.mesh.fsdp) == (2, ("fsdp",), -1)
    assert every.terms["kd"].fields["chunk"] == 512
    assert every.networks["student"].options["remat"] == "block"
    remaining = savings.list_changes(dataclasses.replace(stage, settings=every))
    assert [change.keys for change in remaining] == ["sharding=fsdp mesh.data=1 mesh.fsdp=-1"]  # the mesh is as it was


def test_changes_that_save_bytes_are_listed_with_them(stage, monkeypatch):
    needed = iter([(3, False), (4, False), (2, False), (4, False), (5, False), (1, True)])
    monkeypatch.setattr(savings, "measure_step", lambda stage, chip: next(needed))
    assert [*savings.describe(stage, 4, CHIP, lambda settings: stage)] == [
        "    with networks.student.remat=block: 3 B, 1 B less: does not fit",
        "    with sharding=fsdp mesh.data=1 mesh.fsdp=-1: 2 B, 2 B less: does not fit",
        "    with all of these: 1 B, 3 B less: fits",
    ]


@pytest.mark.slow
def test_the_bytes_of_a_step_are_those_that_its_compiler_needs(stage):
    needed, fits = savings.measure_step(stage, CHIP)
    parts = next(change for change in savings.list_changes(stage) if "accumulate" in change.keys)
    fewer, _ = savings.measure_step(rebuild(parts.settings), CHIP)
    assert 0 < fewer < needed
    assert fits == (needed <= CHIP.memory)
