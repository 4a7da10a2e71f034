"""Origins of the weights that networks start from."""

import dataclasses
import functools
import pathlib

import pytest

from jaxdistill.build import origins
from jaxdistill.build.lanes import Lanes, lanes_in
from jaxdistill.build.origins import StageOrigin
from jaxdistill.config import references
from jaxdistill.errors import UserError
from jaxdistill.modules.preprocess import ImageSpec
from runs import parsed


def find(stages, *flags):
    return origins.find_origins(parsed(*flags)["evaluate"], stages, pathlib.Path("nowhere"))


def test_a_stage_is_the_origin_of_the_network_of_the_same_name_or_of_its_only_one(stages):
    names = {name: (origin.stage.name, origin.network) for name, origin in find(stages).items()}
    assert names == {"teacher": ("teacher", "teacher"), "student": ("distil", "student"), "slow": ("distil", "slow")}
    renamed = find(stages, "--config.stages.evaluate.networks.slow.weights=stage:teacher")
    assert renamed["slow"].network == "teacher"


def test_an_origin_has_the_images_and_lanes_of_its_stage(stages):
    origin = find(stages)["student"]
    assert isinstance(origin.image_spec, ImageSpec)
    assert origin.image_spec == stages["distil"].data.task.image_spec
    assert lanes_in(origin.metadata) == 0
    make_runs = functools.partial(Lanes, lanes=(stages["distil"],) * 2, per_lane=())
    stage = dataclasses.replace(stages["distil"], make_runs=make_runs)
    assert lanes_in(StageOrigin(origin.ref, stage, "student").metadata) == 2


def test_weights_of_another_run_must_exist(stages):
    with pytest.raises(UserError, match="no checkpoints in runs/none/checkpoints"):
        find(stages, "--config.stages.evaluate.networks.slow.weights=runs/none")


def test_every_network_of_a_stage_has_an_origin_or_is_initialised(stages):
    origins.check(stages["distil"], origins.find_origins(stages["distil"].settings, stages, pathlib.Path()))
    with pytest.raises(UserError, match="stage 'evaluate' does not train network 'slow'; set its weights"):
        origins.check(stages["evaluate"], {name: x for name, x in find(stages).items() if name != "slow"})


def test_an_origin_has_the_network_its_shapes_and_its_lanes(stages):
    shapes = stages["evaluate"].shapes.variables
    student = find(stages)["student"]
    student.check("x", shapes["student"], None)
    with pytest.raises(UserError, match="x is another network"):
        student.check("x", shapes["teacher"], None)
    with pytest.raises(UserError, match="trained network in stage 'distil' must be an existing name, got 'teacher'"):
        dataclasses.replace(student, network="teacher").check("x", shapes["teacher"], None)
    with pytest.raises(UserError, match="x was not trained in lanes; leave out @1"):
        dataclasses.replace(student, ref=references.parse("stage:distil@1")).check("x", shapes["student"], None)
