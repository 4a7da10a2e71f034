"""Selected steps: the number that ranks the checkpoints of each network."""

from types import SimpleNamespace

import pytest

import runs
from jaxdistill.build.lanes import selected_step
from jaxdistill.errors import TrainingFailed, UserError
from jaxdistill.stages import selected_steps

ONE, SEVERAL = [("student", "slow")], [("student", "slow"), ("wide",), ("exit",)]
RANKING = ["student/accuracy", "student/nll", "slow/accuracy", "slow/nll", "wide/accuracy", "wide/nll"]


def make_stage(metric="", units=SEVERAL, ranking=RANKING, keep="best"):
    """Returns what of a stage selects its steps; `exit` is no network that is measured by default."""
    checkpoint = SimpleNamespace(metric=metric, keep=keep)
    return SimpleNamespace(
        name="distil",
        settings=SimpleNamespace(checkpoint=checkpoint),
        evaluation=SimpleNamespace(ranking=ranking),
        units=[SimpleNamespace(networks=networks) for networks in units],
        networks={
            name: SimpleNamespace(learns=name != "slow", evaluated_by_default=name != "exit")
            for networks in units
            for name in networks
        },
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


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        (make_stage(), ""),
        (make_stage("accuracy", ranking=RANKING[2:]), ""),  # its average is measured
        (make_stage("accuracy", ranking=RANKING[:4]), "wide"),
        (make_stage(ranking=RANKING[4:]), "student"),
        (make_stage("student/nll", ranking=RANKING[:4]), ""),
        (make_stage(ranking=RANKING[:4], keep="last"), ""),
    ],
)
def test_a_network_that_learns_by_itself_must_be_measured(stage, missing):
    if not missing:
        selected_steps.check(stage)
        return
    with pytest.raises(
        UserError, match=f"^stages.distil.evaluate.networks must have {missing!r}, .* Add it, or choose"
    ):
        selected_steps.check(stage)


@pytest.mark.slow
def test_a_run_in_which_a_student_has_no_best_checkpoint_is_refused(tmp_path, capsys):
    flags = ["--config.stages.distil.evaluate.networks=small,deep", "--plan", "--config.batch=8"]
    assert runs.launched(tmp_path / "run", *flags, config=runs.TINY.replace("tiny.py", "students.py")) == 2
    assert "stages.distil.evaluate.networks must have 'wide'" in capsys.readouterr().err
