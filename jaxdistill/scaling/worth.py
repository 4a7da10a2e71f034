"""The loss of a larger run, and the sign of distilled minus control, predicted from a ladder of small runs."""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.report.tables import Table
from jaxdistill.scaling.ladder import Ladder, read_ladder
from jaxdistill.scaling.law import AXES, FEWEST_VALUES, Array, Law, check_identifiable, choose_law, count_needed, refit

INTERVAL = (5.0, 95.0)
"""Percentiles over resamples."""

CERTAIN = 0.9
"""The fraction of resamples that must agree for a sentence without "undecided"."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A predicted number with the 5th and the 95th percentile over resamples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predicted losses of one larger run.

    Attributes:
        place: its parameters, examples and steps.
        student, control: their losses; the control is `None` if the ladder has none.
        difference: of student and control.
        fraction: of resamples in which the student's loss is smaller.
    """

    place: Mapping[str, float]
    student: Estimate
    control: Estimate | None = None
    difference: Estimate | None = None
    fraction: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the teacher lowers the loss: "yes", "no" or "undecided"; "" without a control."""
        if self.fraction is None:
            return ""
        return "yes" if self.fraction >= CERTAIN else "no" if self.fraction <= 1 - CERTAIN else "undecided"


@dataclasses.dataclass(frozen=True)
class Worth:
    """Predictions from a ladder.

    Attributes:
        ladder: the runs.
        laws: of the student, and of the control if there is one.
        predictions: of larger runs.
        misfit: the median and the largest relative error of the student's law at its rungs.
        backtest: by axis with four values or more, the largest relative error at its largest value of a law fitted
            without it.
    """

    ladder: Ladder
    laws: Sequence[Law]
    predictions: Sequence[Prediction]
    misfit: tuple[float, float]
    backtest: Mapping[str, float]

    def table(self) -> Table:
        """Returns the predictions as a table."""
        student, control = self.ladder.names
        sides = [f"{student} {self.ladder.metric}"] + (
            [f"{control} {self.ladder.metric}", "difference"] * bool(control)
        )
        rows = []
        for item in self.predictions:
            cells = [f"{item.place[axis]:,.6g}" for axis in AXES] + [str(item.student)]
            if item.control is not None:
                cells += [str(item.control), str(item.difference), item.verdict]
            rows.append(cells)
        return Table([*AXES, *sides, *(["worth it"] * bool(control))], rows)

    def sentences(self) -> list[str]:
        """Returns sentences on what the ladder allows to be concluded."""
        student, control = self.ladder.names
        median, largest = self.misfit
        seeds = [len(losses) for losses in self.ladder.students]
        axes = ", ".join(f"{axis} {_format_range(values)}" for axis, values in self._ranges())
        lines = [
            f"{len(seeds)} rungs of {axes}, {min(seeds)} to {max(seeds)} repetitions of each. The law of {student}"
            f" misses its rungs by {median:.1%} in the median and {largest:.1%} at most.",
            *(
                f"Fitted without the largest {axis}, it misses these by up to {error:.1%}."
                for axis, error in self.backtest.items()
            ),
        ]
        if not self.backtest:
            lines.append("No axis has four values, so that the largest could be predicted from the others as a test.")
        for item in self.predictions if control else ():
            place = ", ".join(f"{item.place[axis]:,.6g} {axis}" for axis in AXES)
            better = {"yes": f"{student} is better", "no": f"{control} is better", "undecided": "undecided"}[
                item.verdict
            ]
            lines.append(f"At {place}: {better}; {student} has the smaller loss in {item.fraction:.0%} of resamples.")
        return lines

    def _ranges(self) -> Iterator[tuple[str, Array]]:
        yield from zip(self.ladder.axes, self.ladder.places.T, strict=True)

    def records(self) -> dict[str, Any]:
        """Returns the numbers, for `worth.json`."""
        return {
            "student": self.ladder.names[0],
            "control": self.ladder.names[1],
            "metric": self.ladder.metric,
            "axes": list(self.ladder.axes),
            "rungs": [
                dict(zip(self.ladder.axes, place.tolist(), strict=True))
                | {"student": self.ladder.students[i].tolist()}
                | ({"control": self.ladder.controls[i].tolist()} if self.ladder.controls else {})
                for i, place in enumerate(self.ladder.places)
            ],
            "laws": [
                {"form": law.form, "floor": law.floor}
                | {key: getattr(law, key).tolist() for key in ("reference", "amplitudes", "exponents")}
                for law in self.laws
            ],
            "misfit": {"median": self.misfit[0], "largest": self.misfit[1]},
            "backtest": dict(self.backtest),
            "predictions": [dataclasses.asdict(item) | {"worth": item.verdict} for item in self.predictions],
        }

    def __str__(self) -> str:
        return "\n".join([self.table().to_text(), "", *self.sentences()])


def _format_range(values: Array) -> str:
    return f"{values.min():,.6g} to {values.max():,.6g}"


def worth(
    runs: Sequence[str | os.PathLike[str]],
    *,
    student: str = "",
    control: str = "",
    metric: str = "",
    times: float = 4.0,
    at: Mapping[str, float] | None = None,
    resamples: int = 200,
) -> Worth:
    """Predicts the loss of larger runs from a ladder of finished small ones.

    Args:
        runs: folders of runs, or of sweeps (`jaxdistill sweep`), of several sizes, numbers of examples and steps.
        student, control: networks of the results, or patterns of them; those of the runs if there is one pair.
        metric: a loss of the results; `nll` or `rmse` by default.
        times: predictions are made of so many times the largest value of each axis that varies, and of all of them.
        at: predicted instead: parameters, examples and steps; axes that are left out have their largest value.
        resamples: the number of resamples of the repetitions and of the law's errors.

    Raises:
        UserError: for folders that are no finished runs, and runs that do not determine a law.
    """
    if isinstance(runs, str | os.PathLike):
        raise UserError(f"runs must be a list of folders, got {os.fspath(runs)!r}. Write [{os.fspath(runs)!r}]")
    check_least("resamples", resamples, 1)
    ladder = read_ladder([os.fspath(run) for run in runs], student, control, metric)
    return predict(ladder, _choose_targets(ladder, times, at), resamples)


def _choose_targets(ladder: Ladder, times: float, at: Mapping[str, float] | None) -> Array:
    """Returns the places to predict `[n, axes]`."""
    largest = ladder.places.max(0)
    if at:
        for axis, value in at.items():
            if axis not in ladder.axes:
                raise unknown("--at", axis, ladder.axes, "an axis that varies in the ladder")
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise UserError(f"--at {axis} must be a positive number, got {value!r}")
        return np.array([[at.get(axis, large) for axis, large in zip(ladder.axes, largest, strict=True)]])
    if not 1 < times < math.inf:
        raise UserError(f"--times must be a number above 1, got {times}. Write --times 4")
    single = [largest * np.where(np.arange(len(largest)) == i, times, 1.0) for i in range(len(largest))]
    return np.array(single + ([largest * times] if len(largest) > 1 else []))


def predict(ladder: Ladder, targets: Array, resamples: int = 200) -> Worth:
    """Fits the laws of a ladder and predicts the losses at targets `[n, axes]`.

    A resample draws the repetitions of each rung anew, the same for student and control, and gives each rung the
    relative error that the law has at another. So the spread has both the noise of seeds and the errors of the law.

    Raises:
        UserError: for a ladder that does not determine a law.
    """
    check_identifiable(ladder.axes, ladder.places)
    sides = ladder.sides
    means = [np.array([losses.mean() for losses in side]) for side in sides]
    laws = [choose_law(ladder.axes, ladder.places, mean) for mean in means]
    values = np.array([law.predict(targets) for law in laws])
    drawn = np.array([*_resample(ladder, laws, targets, resamples)])  # [resamples, sides, targets]
    errors = np.abs(laws[0].predict(ladder.places) / means[0] - 1)
    predictions = []
    for i, target in enumerate(targets):
        values_of = {**ladder.fixed, **dict(zip(ladder.axes, target.tolist(), strict=True))}
        place = {axis: values_of[axis] for axis in AXES}
        estimates = [_estimate(values[side, i], drawn[:, side, i]) for side in range(len(sides))]
        if ladder.controls:
            difference = drawn[:, 0, i] - drawn[:, 1, i]
            estimates.append(_estimate(values[0, i] - values[1, i], difference))
            predictions.append(Prediction(place, *estimates, fraction=float((difference < 0).mean())))
        else:
            predictions.append(Prediction(place, *estimates))
    backtest = dict(_backtest(ladder, laws[0], means[0]))
    misfit = float(np.median(errors)), float(errors.max())
    return Worth(ladder, laws, predictions, misfit=misfit, backtest=backtest)


def _estimate(value: float, drawn: Array) -> Estimate:
    low, high = np.percentile(drawn, INTERVAL)
    return Estimate(float(value), float(low), float(high))


def _resample(ladder: Ladder, laws: Sequence[Law], targets: Array, count: int) -> Iterator[list[Array]]:
    """Yields the predictions of each side `[targets]` for each resample."""
    random = np.random.default_rng(0)
    fitted = [law.predict(ladder.places) for law in laws]
    sides = ladder.sides
    means = [np.array([losses.mean() for losses in side]) for side in sides]
    for _ in range(count):
        members = [random.integers(0, len(losses), len(losses)) for losses in ladder.students]
        rungs = random.integers(0, len(ladder.places), len(ladder.places))
        drawn = []
        for side, law, fit, mean in zip(sides, laws, fitted, means, strict=True):
            noise = np.array([losses[chosen].mean() for losses, chosen in zip(side, members, strict=True)]) / mean
            drawn.append(refit(law, ladder.places, fit * (mean / fit)[rungs] * noise).predict(targets))
        yield drawn


def _backtest(ladder: Ladder, whole: Law, means: Array) -> Iterator[tuple[str, float]]:
    """Yields the largest relative error at the largest value of each axis that has enough others."""
    for i, axis in enumerate(ladder.axes):
        values = ladder.places[:, i]
        largest = values == values.max()
        if len(np.unique(values)) <= FEWEST_VALUES or (~largest).sum() < count_needed(ladder.axes) - 1:
            continue
        law = refit(whole, ladder.places[~largest], means[~largest])
        yield axis, float(np.abs(law.predict(ladder.places[largest]) / means[largest] - 1).max())
