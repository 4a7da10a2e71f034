"""Paired differences with standard errors, over seeds and over examples.

Of n pairs with the differences d_i the standard error of their mean is sd(d) / sqrt(n), with n - 1 in the deviation.
Differences of the same seeds, or on the same examples, leave out what both sides share, so that their error is
smaller than that of two independent means.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxdistill.compare.experiments import Experiment, Place
from jaxdistill.compare.finished_run import Member

OVER_SEEDS, OVER_EXAMPLES = "seeds", "examples"

Side = tuple[Member, Place]
"""A network of a run or lane."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of a metric between two sides.

    Attributes:
        side: an experiment or a network.
        base: the one that it is compared with, whose values are subtracted.
        place: the network of the side and its evaluation.
        metric: its name.
        over: the pairs, seeds or examples.
        values: of each pair.
    """

    side: str
    base: str
    place: Place
    metric: str
    over: str
    values: Sequence[float]

    @property
    def mean(self) -> float:
        """The mean over the pairs."""
        return statistics.fmean(self.values)

    @property
    def error(self) -> float | None:
        """The standard error of the mean; `None` for a single pair."""
        return statistics.stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else None


def compare_experiments(first: Experiment, second: Experiment, metrics: Sequence[str]) -> Iterator[Difference]:
    """Yields `second` minus `first` for each network that both have, by seed and by example."""
    make = functools.partial(Difference, second.name, first.name)
    for place in (place for place in first.places() if place in second.places()):
        for metric in metrics:
            if values := _pair(first.by_seed(place), second.by_seed(place), metric):
                yield make(place, metric, OVER_SEEDS, values)
        members = [(a, b) for a in first.members for b in second.members if a.seed == b.seed]
        for metric, values in _pair_examples([((a, place), (b, place)) for a, b in members]).items():
            yield make(place, metric, OVER_EXAMPLES, values)


def compare_networks(experiment: Experiment, pairs: Sequence[Place], metrics: Sequence[str]) -> Iterator[Difference]:
    """Yields network minus reference for each pair `(network, reference)`, by seed and by example."""
    references = [(place, base) for place in experiment.places() for name, base in pairs if place[0] == name]
    for place, reference in references:
        base = (reference, place[1])
        make = functools.partial(Difference, place[0], base[0], place)
        for metric in metrics:
            if values := _pair(experiment.by_seed(base), experiment.by_seed(place), metric):
                yield make(metric, OVER_SEEDS, values)
        sides = [((member, base), (member, place)) for member in experiment.members]
        for metric, values in _pair_examples(sides).items():
            yield make(metric, OVER_EXAMPLES, values)


def _pair(left: Mapping[str, Mapping], right: Mapping[str, Mapping], metric: str) -> list[float]:
    """Returns `right` minus `left` for each seed that both have; [] if a value is missing."""
    pairs = [(left[seed].get(metric), right[seed].get(metric)) for seed in left if seed in right]
    numbers = [(a, b) for a, b in pairs if isinstance(a, int | float) and isinstance(b, int | float)]
    return [b - a for a, b in numbers] if len(numbers) == len(pairs) else []


def _pair_examples(sides: Sequence[tuple[Side, Side]]) -> dict[str, list[float]]:
    """Returns the second minus the first of each example by metric, as a mean over pairs of sides; {} if none fit."""
    pairs = [(_scores(left), _scores(right)) for left, right in sides if _have_same_examples(left, right)]
    differences: dict[str, list[np.ndarray]] = {}
    for left, right in pairs:
        for metric in (name for name in left if name in right):
            differences.setdefault(metric, []).append(right[metric] - left[metric])
    return {metric: values for metric, rows in differences.items() if (values := _average(rows))}


def _average(rows: Sequence[np.ndarray]) -> list[float]:
    """Returns the means of examples with a label; [] if the others differ, as a network is not finite for one seed."""
    labelled = [~np.isnan(row) for row in rows]
    if not all(np.array_equal(labelled[0], mask) for mask in labelled):
        return []
    return np.mean(rows, axis=0)[labelled[0]].tolist()


def _have_same_examples(left: Side, right: Side) -> bool:
    """Whether two sides have predicted the same examples; predictions are stored of the first lane."""
    if any(member.lane not in (0, None) for member, _ in (left, right)):
        return False
    first, second = (
        {name: array for name, array in member.run.predictions(evaluation).items() if "/" not in name}
        for member, (_, evaluation) in (left, right)
    )
    return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)


def _equal(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether indices or classes are equal, or numbers but for the rounding of their standardisation."""
    if left.shape != right.shape or not left.dtype.kind == right.dtype.kind == "f":
        return np.array_equal(left, right)
    size = np.max(np.abs(left), initial=0.0, where=~np.isnan(left))
    return np.allclose(left, right, rtol=1e-6, atol=1e-6 * size, equal_nan=True)


def _scores(side: Side) -> dict[str, np.ndarray]:
    """Returns the scores of the examples of a network by metric, NaN without a label."""
    member, (network, evaluation) = side
    named = {tuple(name.split("/")): array for name, array in member.run.predictions(evaluation).items()}
    return {name[1]: array for name, array in named.items() if name[0] == "score" and name[2:] == (network,)}
