"""Shapes of a stage without any computation."""

import dataclasses

import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.networks import Source


def test_state_frozen_variables_and_outputs_have_shapes(stages):
    shapes = stages["distil"].shapes
    assert [*shapes.state.params] == ["student"]
    assert [*shapes.state.variables] == ["slow"]
    assert shapes.frozen["teacher"]["params"]["dense1"]["kernel"].shape == (64, 24)
    assert shapes.variables.keys() == {"student", "slow", "teacher"}
    assert isinstance(shapes.outputs["student"], Output)
    assert shapes.outputs["student"].taps["hidden1"].shape == (64, 8)
    assert (shapes.num_classes("teacher"), shapes.num_axes("teacher")) == (10, 1)


def test_each_array_has_a_sharding(stages):
    state, frozen = stages["distil"].shapes.shardings
    assert state.params["student"]["head"]["kernel"].is_fully_replicated
    assert frozen["teacher"]["params"]["head"]["kernel"].is_fully_replicated


def test_a_network_that_fails_on_the_data_is_one_error_of_its_stage(stages):
    class Failing(Source):
        def __call__(self, variables, batch, outputs, key):
            raise ValueError("needs 3 channels\nand more lines")

    shapes = dataclasses.replace(stages["distil"].shapes, networks={"teacher": Failing()}, terms={})
    with pytest.raises(UserError, match="stage 'distil': its networks cannot be run on its data: needs 3 channels$"):
        shapes.outputs  # noqa: B018
