"""Selected steps: the number that ranks the checkpoints of each network."""

from types import SimpleNamespace

import pytest

from jaxdistill.build.lanes import selected_step
from jaxdistill.errors import TrainingFailed
from jaxdistill.stages import selected_steps

ONE, SEVERAL = [("student", "slow")], [("student", "slow"), ("wide",), ("exit",)]
RANKING = ["student/accuracy", "student/nll", "slow/accuracy", "slow/nll", "wide/accuracy", "wide/nll"]


def make_stage(metric="", units=SEVERAL, ranking=RANKING):
    """Returns what of a stage selects its steps."""
    checkpoint = SimpleNamespace(metric=metric)
    return SimpleNamespace(
        name="distil",
        settings=SimpleNamespace(checkpoint=checkpoint),
        evaluation=SimpleNamespace(ranking=ranking),
        units=[SimpleNamespace(networks=networks) for networks in units],
    )


@pytest.mark.parametrize(
    ("stage", "rankings"),
    [
        (make_stage("slow/nll"), {(): "slow/nll"}),
        (make_stage(units=ONE, ranking=RANKING[:4]), {(): "student/accuracy"}),
        (make_stage(ranking=[]), {}),
        (make_stage(), {(): RANKING[0], ("student", "slow"): "student/accuracy", ("wide",): "wide/accuracy"}),
        (make_stage("nll"), {(): "student/nll", ("student", "slow"): "student/nll", ("wide",): "wide/nll"}),
    ],
)
def test_several_students_are_ranked_by_their_own_numbers(stage, rankings):
    assert selected_steps.find_rankings(stage) == rankings


class Lanes:
    """Two lanes."""

    def ranked_by(self, metric):
        return [f"0/{metric}", f"1/{metric}"]

    def selected(self, steps):
        return {"steps": [*steps]}


def test_each_network_of_each_lane_has_its_step():
    best = {"0/student/accuracy": 4, "1/student/accuracy": 8, "0/wide/accuracy": 12, "1/wide/accuracy": 2}
    done = selected_steps.select(make_stage(), Lanes(), SimpleNamespace(best=best.get))
    names = ("student", "slow", "wide", "exit", "unknown")
    assert [selected_step(done, name, 1) for name in names] == [8, 8, 2, 8, 8]
    assert [selected_step(done, name, 0) for name in names] == [4, 4, 12, 4, 4]
    with pytest.raises(TrainingFailed, match="best by wide/accuracy, which was never finite"):
        selected_steps.select(make_stage(), Lanes(), SimpleNamespace(best={**best, "1/wide/accuracy": None}.get))
