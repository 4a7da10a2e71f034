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
        scores = [_score(b, place) - _score(a, place) for a, b in members if _are_comparable((a, place), (b, place))]
        if scores:
            yield make(place, "accuracy", OVER_EXAMPLES, np.mean(scores, axis=0).tolist())


def compare_networks(experiment: Experiment, pairs: Sequence[Place], metrics: Sequence[str]) -> Iterator[Difference]:
    """Yields network minus reference for each pair `(network, reference)`, by seed and by example."""
    references = [(place, base) for place in experiment.places() for name, base in pairs if place[0] == name]
    for place, reference in references:
        base = (reference, place[1])
        make = functools.partial(Difference, place[0], base[0], place)
        for metric in metrics:
            if values := _pair(experiment.by_seed(base), experiment.by_seed(place), metric):
                yield make(metric, OVER_SEEDS, values)
        members = [member for member in experiment.members if _are_comparable((member, place), (member, base))]
        if members:
            scores = [_score(member, place) - _score(member, base) for member in members]
            yield make("accuracy", OVER_EXAMPLES, np.mean(scores, axis=0).tolist())


def _pair(left: Mapping[str, Mapping], right: Mapping[str, Mapping], metric: str) -> list[float]:
    """Returns `right` minus `left` for each seed that both have; [] if a value is missing."""
    pairs = [(left[seed].get(metric), right[seed].get(metric)) for seed in left if seed in right]
    numbers = [(a, b) for a, b in pairs if isinstance(a, int | float) and isinstance(b, int | float)]
    return [b - a for a, b in numbers] if len(numbers) == len(pairs) else []


def _are_comparable(*sides: tuple[Member, Place]) -> bool:
    """Whether two sides have predicted the classes of the same examples; predictions are stored of the first lane."""
    if any(member.lane not in (0, None) for member, _ in sides):
        return False
    left, right = (member.run.predictions(evaluation) for member, (_, evaluation) in sides)
    names = (f"prediction/{network}" for _, (network, _) in sides)
    if not all(name in arrays for name, arrays in zip(names, (left, right), strict=True)) or left["label"].ndim != 1:
        return False
    return all(np.array_equal(left[name], right[name]) for name in ("index", "label"))


def _score(member: Member, place: Place) -> np.ndarray:
    """Returns 1 for each labelled example whose class the network predicts, 0 for the others."""
    network, evaluation = place
    arrays = member.run.predictions(evaluation)
    right = arrays[f"prediction/{network}"] == arrays["label"]
    return 1.0 * right[arrays["label"] >= 0]
