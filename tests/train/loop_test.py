"""How many steps one dispatch makes."""

import pytest

from jaxdistill.train.loop import Job, _batches, _fitting


def job(**more):
    names = Job.__dataclass_fields__
    job = dict.fromkeys(names) | {"evaluate_every": 0, "save_every": 0} | more
    return Job(**job)


@pytest.mark.parametrize(
    ("asked", "settings", "taken"),
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
def test_as_few_dispatches_as_can_be(asked, settings, taken):
    assert _fitting(job(dispatch=asked, **settings)) == taken


def test_dispatches_end_at_boundaries(monkeypatch):
    monkeypatch.setattr("jaxdistill.train.mesh.put", lambda mesh, fed, leading: fed)

    class Loader:
        leading = 0

        def feeds(self, start, stop):
            return ({"index": [step]} for step in range(start, stop))

    one = job(dispatch=4, steps=10, evaluate_every=5, loader=Loader())
    assert [count for count, _ in _batches(one, 0)] == [4, 1, 4, 1]
