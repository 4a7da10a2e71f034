"""A built stage: its settings in steps, its networks in order, and its first state."""

import jax

from jaxdistill.config.references import WeightsRef


def test_networks_follow_those_they_need_and_durations_are_steps(stages):
    assert [*stages["distil"].networks] == ["student", "teacher", "slow"]
    assert (stages["distil"].settings.steps, stages["distil"].settings.evaluate.every) == (12, 4)
    assert float(stages["distil"].units[0].rate(0)) > float(stages["distil"].units[0].rate(6)) > 0


def test_references_are_the_weights_that_networks_name(stages):
    assert stages["distil"].references["teacher"] == {"weights": WeightsRef(stage="teacher")}
    assert stages["teacher"].references == {"teacher": {}}


def test_the_first_state_has_the_shapes_of_the_stage(stages):
    stage = stages["distil"]
    state, frozen = jax.eval_shape(stage.init)
    assert jax.tree.map(lambda x: x.shape, state) == jax.tree.map(lambda x: x.shape, stage.shapes.state)
    assert [*frozen] == ["teacher"]
