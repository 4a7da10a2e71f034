"""Steps of one dispatch: as many as let the whole run have the fewest dispatches."""

import dataclasses
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.train import loop
from jaxdistill.train.loop import Intervals, Training, _put_inputs


@pytest.mark.parametrize(
    ("most", "settings", "taken"),
    [
        (32, {"steps": 200, "evaluate_every": 25}, 25),
        (32, {"steps": 60, "evaluate_every": 20}, 20),
        (64, {"steps": 1500, "evaluate_every": 100}, 50),
        (32, {"steps": 96}, 32),
        (32, {"steps": 200, "evaluate_every": 25, "save_every": 40}, 5),
        (1, {"steps": 100, "evaluate_every": 10}, 1),
        (32, {"steps": 3}, 3),
    ],
)
def test_as_few_dispatches_as_possible(most, settings, taken):
    assert Intervals(steps_per_call=most, **settings).with_fewest_calls().steps_per_call == taken


def test_dispatches_end_at_boundaries(monkeypatch):
    monkeypatch.setattr("jaxdistill.train.mesh.put", lambda mesh, inputs, leading: inputs)

    class Loader:
        leading = 0

        def step_inputs(self, start, stop):
            return ({"index": [step]} for step in range(start, stop))

        def crop(self, parts):
            return parts

    fields = dict.fromkeys(field.name for field in dataclasses.fields(Training))
    intervals = Intervals(steps=10, evaluate_every=5, steps_per_call=4)
    training = Training(**fields | {"intervals": intervals, "loader": Loader()})
    inputs = [(count, inputs["index"]) for count, inputs in _put_inputs(training, 0)]
    assert [count for count, _ in inputs] == [4, 1, 4, 1]
    assert [*intervals.calls(4)] == [1, 4, 1]
    assert intervals.next_boundary(5) == 10


def test_a_finished_stage_reads_its_state_as_an_unfinished_one_does():
    """Training forbids the transfers that it takes to read or make a state."""
    training = types.SimpleNamespace(
        intervals=types.SimpleNamespace(steps=4, steps_per_call=1),
        loader=types.SimpleNamespace(resident={}),
        mesh=jax.make_mesh((1,), ("data",)),
        compile=lambda count: None,
    )
    tools = types.SimpleNamespace(
        monitor=types.SimpleNamespace(throughput=None), checkpoints=types.SimpleNamespace(wait=lambda: None)
    )
    with jax.transfer_guard("disallow"):
        state: Any = loop._loop(training, lambda: jnp.sin(np.ones(3)), {}, tools=tools, start=4, metadata={})
    assert state.shape == (3,)
