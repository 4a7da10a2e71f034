"""A law is found again in its own losses, and ladders that do not determine one are refused."""

import itertools

import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.scaling import law
from jaxdistill.scaling.law import AXES, FORMS, check_identifiable, choose_law, fit_law
from ladder_runs import EXAMPLES, STEPS, WIDTHS, loss_of

GRID = np.array([*itertools.product(WIDTHS, EXAMPLES, STEPS)], float)
LOSSES = np.array([loss_of(*place) for place in GRID])


def test_a_law_is_found_again():
    law = fit_law("sum", AXES, GRID, LOSSES)
    np.testing.assert_allclose(law.predict(GRID), LOSSES, rtol=1e-4)
    np.testing.assert_allclose(law.exponents, [[0.7, 0, 0], [0, 0.6, 0], [0, 0, 0.9]], atol=0.02)
    assert law.predict(np.array([[160.0, 1600.0, 800.0]])) == pytest.approx(loss_of(160, 1600, 800), rel=2e-3)


def test_the_form_that_predicts_rungs_is_taken():
    assert choose_law(AXES, GRID, LOSSES).form == "sum"
    losses = 0.1 * np.exp(10.0 / GRID[:, 0] ** 0.8 + 20.0 / GRID[:, 1] ** 0.6 + 30.0 / GRID[:, 2])
    law = choose_law(AXES, GRID, losses)
    assert law.form == "product"
    expected = 0.1 * np.exp(10.0 / 160**0.8 + 20.0 / 1600**0.6 + 30.0 / 800)
    assert law.predict(np.array([[160.0, 1600.0, 800.0]])) == pytest.approx(expected, rel=5e-3)


def test_the_steps_that_a_size_needs():
    losses = LOSSES + 9.0 / GRID[:, 2] ** 0.9 * ((20.0 / GRID[:, 0]) ** 0.5 - 1)
    law = fit_law("sum", AXES, GRID, losses)
    assert law.exponents[2] == pytest.approx([0.5, 0, 0.9], abs=0.02)
    expected = loss_of(160, 1600, 800) + 9.0 / 800**0.9 * (0.125**0.5 - 1)
    assert law.predict(np.array([[160.0, 1600.0, 800.0]])) == pytest.approx(expected, rel=5e-3)


def test_a_rung_off_the_law_counts_little(monkeypatch):
    losses, expected = LOSSES.copy(), loss_of(*4 * GRID[-1])
    losses[13] *= 1.5
    assert fit_law("sum", AXES, GRID, losses).predict(4 * GRID[-1:]) == pytest.approx(expected, rel=0.05)
    monkeypatch.setattr(law, "HUBER", 100.0)  # least squares
    assert fit_law("sum", AXES, GRID, losses).predict(4 * GRID[-1:]) < 0.85 * expected


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_of_one_axis_that_is_all_floor_stays(form):
    places = np.array([[10.0], [20.0], [40.0], [80.0]])
    assert fit_law(form, ("steps",), places, np.full(4, 0.7)).predict(np.array([[320.0]])) == pytest.approx(
        0.7, rel=1e-3
    )


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (GRID[GRID[:, 0] < 40], "must have at least 3 values of parameters, got 10, 20. Add runs"),
        (GRID[[0, 13, 26, 1, 2, 5]], "must have at least 9 settings of parameters, examples, steps, got 6. Add runs"),
        (np.repeat(GRID[:, :1], 3, 1), "parameters and examples of the ladder must vary apart from each other"),
    ],
)
def test_ladders_that_do_not_determine_a_law(places, message):
    with pytest.raises(UserError, match=message):
        check_identifiable(AXES, places)
