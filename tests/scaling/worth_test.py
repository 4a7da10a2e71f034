"""Predictions of larger runs from a ladder whose law is given."""

import pytest

import jaxdistill
from jaxdistill.errors import UserError
from ladder_runs import loss_of, write_ladder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_ladder(tmp_path_factory.mktemp("ladder") / "s", widths=(10, 20, 40, 80), steps=(50,))


def test_losses_signs_and_the_backtest(folder):
    found = jaxdistill.worth([folder], resamples=40)
    places = [{"parameters": p, "examples": n, "steps": 50} for p, n in ((320, 400), (80, 1600), (320, 1600))]
    assert [item.place for item in found.predictions] == places
    for item in found.predictions:
        expected = [loss_of(*item.place.values(), gap) for gap in (0.0, 0.5)]
        assert item.student.value == pytest.approx(expected[0], rel=0.01)
        assert item.control.value == pytest.approx(expected[1], rel=0.01)
        assert item.student.low <= item.student.value <= item.student.high
        assert item.student.high - item.student.low < 0.05 * item.student.value
        assert (item.verdict, item.fraction) == ("yes", 1.0)
    assert found.misfit[1] < 1e-3
    assert set(found.backtest) == {"parameters"}
    assert found.backtest["parameters"] < 0.01
    assert "distilled is better; distilled has the smaller loss in 100% of resamples." in str(found)


def test_a_control_that_is_better_and_one_that_is_equal(tmp_path):
    small = {"steps": (50,), "widths": (10,), "examples": (50, 100, 200, 400)}
    for gap, verdict in ((-0.5, "no"), (0.0, "undecided")):
        found = jaxdistill.worth([write_ladder(tmp_path / verdict, gap=gap, **small)], resamples=20)
        if gap:
            assert [item.verdict for item in found.predictions] == [verdict]
        else:
            assert [item.difference.value for item in found.predictions] == [pytest.approx(0, abs=1e-6)]


def test_one_place_without_a_control(folder):
    found = jaxdistill.worth([folder], student="distilled", at={"parameters": 160}, resamples=2)
    [item] = found.predictions
    assert (item.place, item.control, item.verdict) == ({"parameters": 160, "examples": 400, "steps": 50}, None, "")
    assert item.student.value == pytest.approx(loss_of(160, 400, 50), rel=0.01)


def test_mistakes(folder):
    for options, message in (
        ({"at": {"steps": 3}}, "--at must be an axis that varies in the ladder, got 'steps'"),
        ({"at": {"examples": 0}}, "--at examples must be a positive number, got 0"),
        ({"at": {"examples": "9"}}, "--at examples must be a positive number, got '9'"),
        ({"times": 1}, "--times must be a number above 1, got 1"),
        ({"resamples": 0}, "resamples must be at least 1 and finite, got 0"),
    ):
        with pytest.raises(UserError, match=message):
            jaxdistill.worth([folder], **options)
    with pytest.raises(UserError, match="runs must be a list of folders, got '.*'. Write"):
        jaxdistill.worth(folder)
