"""A law of the loss over a ladder of runs: an irreducible part, and a power of each axis.

Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, https://arxiv.org/abs/2203.15556, approach 3:
the loss is a sum of a floor and a power of parameters and of examples. Here steps are an axis of their own, as several
passes over the same examples are usual in distillation. Their power has a factor of the parameters, since a larger
network needs another number of steps (Kaplan et al., 2020, https://arxiv.org/abs/2001.08361, section 5):

    sum:        loss = E + A / parameters^a + B / examples^b + C / (steps^c parameters^d)
    product:    log loss = log E + A / parameters^a + B / examples^b + C / (steps^c parameters^d)

In the second form an axis changes the loss by a factor, whatever the others are. The form that predicts each rung
better from all others is taken. The Huber loss of the logarithms is least, so that a rung off the law counts little. E,
A, B, C, a, b and c are not negative. Axes that do not vary are left out.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jaxdistill.errors import UserError

Array = NDArray[np.float64]

AXES = ("parameters", "examples", "steps")

FORMS = ("sum", "product")

FACTORS = {("steps", "parameters")}
"""Pairs of an axis and another one that its part has a power of."""

FEWEST_VALUES = 3
"""Values of an axis that a floor, an amplitude and an exponent need."""

HUBER = 0.01
"""The relative error from which on an error counts linearly."""

STEEPEST = 3.0
"""The largest exponent."""

LONGEST = 300
"""Steps of a search."""

SMALLEST = 1e-6
"""The least part of the smallest loss that the floor or an amplitude may be: 0 to six digits."""


@dataclasses.dataclass(frozen=True)
class Law:
    """A fitted law.

    Attributes:
        form: one of `FORMS`.
        axes: some of `AXES`.
        reference: the geometric mean of each axis `[axes]`.
        floor: E.
        amplitudes: each part at the reference `[axes]`, of the loss or of its logarithm.
        exponents: of each axis in each part `[parts, axes]`.
    """

    form: str
    axes: tuple[str, ...]
    reference: Array
    floor: float
    amplitudes: Array
    exponents: Array

    def predict(self, places: Array) -> Array:
        """Returns the loss `[n]` at places `[n, axes]`."""
        logs = np.log(places / self.reference)
        parts = np.sum(self.amplitudes * np.exp(-logs @ self.exponents.T), -1)
        return self.floor + parts if self.form == "sum" else self.floor * np.exp(parts)


def find_terms(axes: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the part and the axis of each exponent of a law."""
    count = range(len(axes))
    return [(i, j) for i in count for j in count if i == j or (axes[i], axes[j]) in FACTORS]


def count_needed(axes: Sequence[str]) -> int:
    """Returns the number of settings that a ladder must have: one more than the numbers of its law."""
    return 2 + len(axes) + len(find_terms(axes))


def check_identifiable(axes: Sequence[str], places: Array) -> None:
    """Raises `UserError` unless runs at places `[n, axes]` determine a law and leave one of its errors to measure."""
    for axis, values in zip(axes, places.T, strict=True):
        distinct = np.unique(values)
        if len(distinct) < FEWEST_VALUES:
            raise UserError(
                f"the ladder must have at least {FEWEST_VALUES} values of {axis}, got {_show(distinct)}. Add runs with"
                " others, or leave out those of all values but one"
            )
    if len(places) < count_needed(axes):
        raise UserError(
            f"the ladder must have at least {count_needed(axes)} settings of {', '.join(axes)}, got {len(places)}. Add"
            " runs (jaxdistill sweep --grid makes all combinations)"
        )
    logs = np.log(places)
    for left, right in itertools.combinations(range(len(axes)), 2):
        pair = logs[:, [left, right]] - logs[:, [left, right]].mean(0)
        if np.linalg.matrix_rank(pair, tol=1e-3 * np.abs(pair).max()) < 2:
            raise UserError(
                f"{axes[left]} and {axes[right]} of the ladder must vary apart from each other, got runs in which they"
                " grow together. Add runs in which one of them alone is larger"
            )


def _show(values: Array) -> str:
    return ", ".join(f"{value:,.6g}" for value in values)


def choose_law(axes: Sequence[str], places: Array, losses: Array) -> Law:
    """Fits both forms to losses `[n]` at places `[n, axes]`; returns the one that predicts rungs better from others.

    The measure is the median error of the rungs, each by a law of all others.
    """
    laws = [fit_law(form, axes, places, losses) for form in FORMS]
    return min(laws, key=lambda law: np.median(np.abs(_predict_each(law, places, losses) / losses - 1)))


def _predict_each(law: Law, places: Array, losses: Array) -> Array:
    """Returns the prediction of each rung from all others `[n]`."""
    rungs = np.arange(len(losses))
    without = [refit(law, places[rungs != i], losses[rungs != i]) for i in rungs]
    return np.array([other.predict(places[i]) for i, other in enumerate(without)])


def refit(law: Law, places: Array, losses: Array) -> Law:
    """Fits a law of the same form to similar losses; the search starts from the law alone."""
    return fit_law(law.form, law.axes, places, losses, law)


def fit_law(form: str, axes: Sequence[str], places: Array, losses: Array, *starts: Law) -> Law:
    """Fits a law to losses `[n]` at places `[n, axes]`.

    Args:
        form: one of `FORMS`.
        axes: some of `AXES`.
        places: positive.
        losses: positive.
        starts: laws of the same form from which the search starts; by default from several.
    """
    from scipy import optimize

    count, terms = len(axes), find_terms(axes)
    reference = starts[0].reference if starts else np.exp(np.log(places).mean(0))
    logs, least = np.log(places / reference), losses.min()
    # The columns of the parts' logarithms by exponent: part, and minus the logarithm of its axis.
    rows, columns = np.array([i for i, _ in terms]), -logs[:, [j for _, j in terms]]
    of_part = (rows[:, None] == np.arange(count)).astype(float)

    def split(numbers: Array) -> tuple[float, Array]:
        return float(np.exp(numbers[0])), np.exp(numbers[1 : count + 1] + (columns * numbers[count + 1 :]) @ of_part)

    def errors(numbers: Array) -> Array:
        floor, parts = split(numbers)
        total = np.log(floor + parts.sum(-1)) if form == "sum" else numbers[0] + parts.sum(-1)
        return total - np.log(losses)

    def slopes(numbers: Array) -> Array:
        floor, parts = split(numbers)
        total = floor + parts.sum(-1, keepdims=True)
        changes = np.concatenate([np.full_like(total, floor), parts, parts[:, rows] * columns], -1)
        return changes / total if form == "sum" else np.concatenate([np.ones_like(total), changes[:, 1:]], -1)

    own = np.array([i == j for i, j in terms])
    scale = least if form == "sum" else 1.0
    smallest, largest = np.log(SMALLEST * scale), np.log(10 * losses.max() / least * scale)
    bounds = (
        np.concatenate([[np.log(SMALLEST * least)], [smallest] * count, np.where(own, 0.0, -STEEPEST)]),
        np.concatenate([[np.log(least)], [largest] * count, [STEEPEST] * len(terms)]),
    )
    fits = [
        optimize.least_squares(
            errors,
            np.clip(numbers, bounds[0] + 1e-6, bounds[1] - 1e-6),
            jac=slopes,  # type: ignore[arg-type]
            bounds=bounds,
            loss="huber",
            f_scale=HUBER,
            max_nfev=LONGEST,
        )
        for numbers in ([_numbers(law, terms) for law in starts] or _starts(losses, own, count))
    ]
    best = min(fits, key=lambda fit: fit.cost).x
    exponents = np.zeros((count, count))
    exponents[tuple(np.array(terms).T)] = best[count + 1 :]
    return Law(form, tuple(axes), reference, float(np.exp(best[0])), np.exp(best[1 : count + 1]), exponents)


def _numbers(law: Law, terms: Sequence[tuple[int, int]]) -> Array:
    exponents = [law.exponents[term] for term in terms]
    return np.concatenate([[np.log(law.floor)], np.log(law.amplitudes), exponents])


def _starts(losses: Array, own: Array, count: int) -> list[Array]:
    """Returns starts with a small and a large floor, and with a steep and a flat power on each axis."""
    starts = []
    for part, powers in itertools.product((0.1, 0.8), itertools.product((0.2, 1.0), repeat=count)):
        floor = part * losses.min()
        exponents = np.zeros(len(own))
        exponents[own] = powers
        amplitudes = [np.log((losses.mean() - floor) / count)] * count
        starts.append(np.concatenate([[np.log(floor)], amplitudes, exponents]))
    return starts
