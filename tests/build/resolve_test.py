"""Stages from settings."""

import pytest

from jaxdistill.build import resolve
from jaxdistill.build.runs import Single
from jaxdistill.config import load as configs
from jaxdistill.errors import UserError

NETWORKS = {"student": {"model": "mlp", "widths": (4,)}}
TERMS = {"task": {"method": "cross_entropy"}}


def build(**raw):
    whole = {"data": {"name": "digits"}, "networks": NETWORKS, "terms": TERMS, "batch": 32, "steps": 3} | raw
    return resolve.stage("train", configs.stages(whole)["train"])


def test_a_stage_has_objects_for_its_settings():
    stage = build(epochs=2, steps=0, evaluate={"batch": 40})
    assert (stage.name, [*stage.networks], [*stage.terms]) == ("train", ["student"], ["task"])
    assert stage.settings.steps == round(2 * 1077 / 32)
    assert (stage.data.batch_size, stage.data.evaluation_batch_size, stage.data.seed) == (32, 40, 0)
    assert isinstance(stage.runs, Single)


def test_the_data_have_the_seed_of_the_run_unless_they_have_their_own():
    assert build(seed=3).data.seed == 3
    assert build(seed=3, data={"name": "digits", "seed": 0}).data.seed == 0


def test_lanes_are_stages_that_differ_in_swept_values():
    stage = build(sweep={"seed": (4, 5), "learning_rate": {"to": (0.1, 0.2)}}, learning_rate={"to": 1.0, "over": 2})
    assert [lane.settings.seed for lane in stage.runs.lanes] == [4, 5]
    assert [float(lane.units[0].rate(2)) for lane in stage.runs.lanes] == pytest.approx([0.1, 0.2])
    assert [*stage.settings.sweep.values] == ["seed", "learning_rate.to"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(steps=0), "stage 'train' has no length; set steps, epochs or examples"),
        (dict(batch=12), "batch must be a multiple of"),
        (dict(compilation_cache=""), "compilation_cache"),
        (dict(task="image_clasification"), "Did you mean 'image_classification'"),
        (dict(terms={}), "stage 'train' has no terms"),
    ],
)
def test_mistakes_are_found_before_anything_is_computed(changed, message):
    with pytest.raises(UserError, match=message):
        build(**changed)
