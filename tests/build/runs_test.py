"""The only run of a stage, behind the protocol of runs."""

import jax


def test_a_single_run_has_the_shapes_and_shardings_of_its_stage(stages):
    stage = stages["distil"]
    single = stage.runs
    state, frozen = single.shapes()
    assert state == stage.shapes.state
    assert frozen == stage.shapes.frozen_in_step
    shardings = single.shardings()
    assert jax.tree.structure(shardings[0]) == jax.tree.structure(state)
    assert jax.tree.structure(shardings[1]) == jax.tree.structure(frozen)


def test_a_single_run_has_one_of_everything(stages):
    single = stages["distil"].runs
    assert (single.batch_axes, single.numbers_of("teacher"), single.first_metadata("teacher")) == ((), [None], {})
    weights = {"teacher": {"params": {"w": 1}}}
    assert single.join("teacher", [weights["teacher"]]) == weights["teacher"]
    assert single.first(weights) == weights
    assert single.split("total") == ["total"]
    assert single.join_numbers([{"loss": 1.0}]) == {"loss": 1.0}
    assert single.ranked_by("student/accuracy") == ["student/accuracy"]
    assert single.selected([7]) == {"step": 7}
    assert (single.result_rows({}, []), single.describe()) == ([], [])
