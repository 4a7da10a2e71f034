"""Steps of one dispatch: as many as let the whole run have the fewest dispatches."""

import dataclasses

import pytest

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
