"""A law of the loss over a ladder of runs: an irreducible part, and a power of each axis.

Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, https://arxiv.org/abs/2203.15556, approach 3:
the loss is a sum of a floor and a power of parameters and of examples. Here steps are an axis of their own, as several
passes over the same examples are usual in distillation. Their part falls with the parameters too, since larger networks
need fewer steps (Kaplan et al., "Scaling Laws for Neural Language Models", 2020, https://arxiv.org/abs/2001.08361):

    sum:        loss = E + A / parameters^a + B / examples^b + C / (steps^c parameters^d)
    product:    log loss = log E + A / parameters^a + B / examples^b + C / (steps^c parameters^d)

In the second form an axis changes the loss by a factor, whatever the others are. The form that predicts each rung
better from all others is taken. The Huber loss of the logarithms is least, so that a rung off the law counts little.
No number is negative, so that no larger run is predicted to be worse. Axes that do not vary are left out.
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

LONGEST, NEAR = 300, 40
"""Steps of a search, and of one that starts at a law of similar losses."""

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
    laws = [refit(law, places[rungs != i], losses[rungs != i]) for i in rungs]
    return np.array([refitted.predict(places[i]) for i, refitted in enumerate(laws)])


def refit(law: Law, places: Array, losses: Array) -> Law:
    """Fits a law of the same form to similar losses; the search starts from the law alone."""
    return fit_law(law.form, law.axes, places, losses, start=law)


def fit_law(form: str, axes: Sequence[str], places: Array, losses: Array, start: Law | None = None) -> Law:
    """Fits a law to losses `[n]` at places `[n, axes]`.

    Args:
        form: one of `FORMS`.
        axes: some of `AXES`.
        places: positive.
        losses: positive.
        start: a law of the same form, from which alone the search starts; it starts from several without one.
    """
    from scipy import optimize

    reference = start.reference if start else np.exp(np.log(places).mean(0))
    search = _Search(form, np.log(places / reference), losses, find_terms(axes))
    bounds = search.bounds()
    fits = [
        optimize.least_squares(
            search.errors,
            np.clip(numbers, bounds[0] + 1e-6, bounds[1] - 1e-6),
            jac=search.slopes,  # type: ignore[arg-type]
            bounds=bounds,
            loss="huber",
            f_scale=HUBER,
            max_nfev=NEAR if start else LONGEST,
        )
        for numbers in ([_numbers(start, search.terms)] if start else search.starts())
    ]
    floor, amplitudes, powers = search.take_apart(min(fits, key=lambda fit: fit.cost).x)
    exponents = np.zeros((len(axes), len(axes)))
    exponents[tuple(np.array(search.terms).T)] = powers
    return Law(
        form=form,
        axes=tuple(axes),
        reference=reference,
        floor=float(np.exp(floor)),
        amplitudes=np.exp(amplitudes),
        exponents=exponents,
    )


@dataclasses.dataclass(frozen=True)
class _Search:
    """A search for the numbers of a law: the logarithms of floor and amplitudes, and the exponents of the terms.

    Attributes:
        form: one of `FORMS`.
        logs: of the places over the reference `[n, axes]`.
        losses: `[n]`.
        terms: part and axis of each exponent.
    """

    form: str
    logs: Array
    losses: Array
    terms: Sequence[tuple[int, int]]

    def take_apart(self, numbers: Array) -> tuple[float, Array, Array]:
        """Returns the logarithms of floor and amplitudes `[axes]`, and the exponents `[terms]`."""
        count = self.logs.shape[1]
        return numbers[0], numbers[1 : count + 1], numbers[count + 1 :]

    def parts(self, numbers: Array) -> Array:
        """Returns the parts `[n, axes]` of the loss, or of its logarithm."""
        _, amplitudes, exponents = self.take_apart(numbers)
        powers = np.zeros_like(self.logs)
        for (part, axis), exponent in zip(self.terms, exponents, strict=True):
            powers[:, part] -= exponent * self.logs[:, axis]
        return np.exp(amplitudes + powers)

    def errors(self, numbers: Array) -> Array:
        """Returns the errors of the logarithms `[n]`."""
        total = self.parts(numbers).sum(-1)
        fitted = np.log(np.exp(numbers[0]) + total) if self.form == "sum" else numbers[0] + total
        return fitted - np.log(self.losses)

    def slopes(self, numbers: Array) -> Array:
        """Returns the derivatives of the errors by the numbers `[n, numbers]`."""
        parts, floor = self.parts(numbers), np.exp(numbers[0])
        of_terms = np.stack([-parts[:, part] * self.logs[:, axis] for part, axis in self.terms], -1)
        changes = np.concatenate([parts, of_terms], -1)
        if self.form == "product":
            return np.concatenate([np.ones((len(parts), 1)), changes], -1)
        total = floor + parts.sum(-1, keepdims=True)
        return np.concatenate([np.full_like(total, floor), changes], -1) / total

    @property
    def diagonal(self) -> NDArray[np.bool_]:
        """Whether the exponent of each term is of the part's own axis."""
        return np.array([part == axis for part, axis in self.terms])

    def bounds(self) -> tuple[Array, Array]:
        """Returns the smallest and the largest numbers."""
        count, least = self.logs.shape[1], self.losses.min()
        scale = least if self.form == "sum" else 1.0
        smallest, largest = np.log(SMALLEST * scale), np.log(10 * self.losses.max() / least * scale)
        low = [[np.log(SMALLEST * least)], [smallest] * count, [0.0] * len(self.terms)]
        return np.concatenate(low), np.concatenate([[np.log(least)], [largest] * count, [STEEPEST] * len(self.terms)])

    def starts(self) -> list[Array]:
        """Returns numbers with a small and a large floor, and with a steep and a flat power on each axis."""
        starts, count = [], self.logs.shape[1]
        for part, powers in itertools.product((0.1, 0.8), itertools.product((0.2, 1.0), repeat=count)):
            floor = part * self.losses.min()
            exponents = np.zeros(len(self.terms))
            exponents[self.diagonal] = powers
            amplitudes = [np.log((self.losses.mean() - floor) / count)] * count
            starts.append(np.concatenate([[np.log(floor)], amplitudes, exponents]))
        return starts


def _numbers(law: Law, terms: Sequence[tuple[int, int]]) -> Array:
    exponents = [law.exponents[term] for term in terms]
    return np.concatenate([[np.log(law.floor)], np.log(law.amplitudes), exponents])
