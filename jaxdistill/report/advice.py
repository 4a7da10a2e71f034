"""Sentences on a finished run: what its numbers allow to be concluded, from its files alone.

A student is compared with its control, the network of the same model and size that was trained without a teacher. With
several seeds the measure of a difference is its spread over them; with one seed it is two standard errors over the
examples of the evaluation, which do not count that another seed would train another network.
"""

import dataclasses
import itertools
import math
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdistill.config import references
from jaxdistill.report import lanes
from jaxdistill.report.inputs import read_optional
from jaxdistill.report.quality import MAXIMISED, Stages, choose_final
from jaxdistill.report.tables import Rows, select_main

CALIBRATED = 0.05
"""The expected calibration error up to which probabilities are called calibrated."""

REPEATED = {"seed", "data.partition.part"}
"""Swept numbers without an order, of which none is better."""

COSTLY = 0.3
"""The fraction of a run's time, or of a stage's waiting for data, from which on it is worth a sentence."""

LONG, SEVERAL = 30.0, 4
"""The seconds of training, and the lines of the log, from which on a stage's waiting for data is worth a sentence."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """The files of a run that advice needs.

    Attributes:
        config: as resolved.
        evaluation: `evaluation.json`.
        rows: of the last evaluation; of lanes, one for each network and lane.
        stages: the lines of `metrics.jsonl`.
        predictions: of `predictions.npz`.
        seconds: the time of each stage; {} if that of one is not recorded.
    """

    config: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    rows: Rows
    stages: Stages
    predictions: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]

    @property
    def measure(self) -> str:
        """The metric that students are compared by."""
        return choose_final(self.rows, self.evaluation)

    @property
    def names(self) -> list[str]:
        """The networks of the table."""
        return list(dict.fromkeys(row["network"] for row in self.rows))

    def values(self, network: str, column: str = "") -> list[float]:
        """Returns the finite values of a column of a network, one for each lane."""
        return [*self.by_lane(network, column).values()]

    def by_lane(self, network: str, column: str = "") -> dict[int | None, float]:
        """Returns the finite values of a column of a network by lane; that of all lanes, or of no lanes, at None."""
        rows = [row for row in self.rows if row["network"] == network]
        values = {row.get("lane"): row.get(column or self.measure) for row in rows}
        return {lane: x for lane, x in values.items() if isinstance(x, int | float) and math.isfinite(x)}

    def pairs(self, left: str, right: str) -> list[tuple[float, float]]:
        """Returns the values of two networks in each lane in which both are finite."""
        of_left, of_right = self.by_lane(left), self.by_lane(right)
        numbered = sorted(lane for lane in {*of_left, *of_right} if lane is not None) or [None]
        pairs = [(of_left.get(n, of_left.get(None)), of_right.get(n, of_right.get(None))) for n in numbered]
        return [(a, b) for a, b in pairs if a is not None and b is not None]


def read(workdir: pathlib.Path, rows: Rows, stages: Stages, predictions: Mapping[str, np.ndarray]) -> Finished:
    """Reads the files of a run; the rows of `results.json` and others are read already."""
    config = read_optional(workdir / "config.json", dict) or {}
    done = {name: read_optional(workdir / name / "done.json", dict) or {} for name in config.get("stages") or {}}
    # The time of a stage that was resumed is that of its last launch alone.
    timed = all("seconds" in about and "resumed" not in about for about in done.values())
    return Finished(
        config=config,
        evaluation=read_optional(workdir / "evaluation.json", dict) or {},
        rows=select_main(lanes.read(workdir) or rows),
        stages=stages,
        predictions=predictions,
        seconds={name: float(about["seconds"]) for name, about in done.items()} if timed else {},
    )


def advise(run: Finished) -> list[str]:
    """Returns the sentences that the numbers of a run allow; none for files that do not suffice."""
    return [*_compare_students(run), *_describe_calibration(run), *_describe_sweep(run), *_describe_time(run)]


def _evaluated(run: Finished) -> Mapping[str, Any]:
    """Returns the networks of the last stage that evaluates."""
    stages = [stage for stage in (run.config.get("stages") or {}).values() if stage.get("kind") == "evaluate"]
    return stages[-1].get("networks", {}) if stages else {}


def _is_taught(run: Finished, network: str, entry: Mapping[str, Any]) -> bool | None:
    """Whether a network, or what it started from, learned from a teacher; `None` if the config does not show it."""
    ref = references.parse(entry.get("weights") or "")
    stage = (run.config.get("stages") or {}).get(ref.stage)
    if stage is None or "terms" not in stage:
        return None
    networks = stage.get("networks", {})
    name = ref.network or network
    learning = [key for key, value in networks.items() if value.get("source", "trained") == "trained"]
    if name not in networks:
        name = learning[0] if len(learning) == 1 else ""
    if not name:
        return None
    origin = networks[name].get("of")  # an average of another network's weights
    name = origin if isinstance(origin, str) and origin in networks else name
    teachers = [term.get("teacher") for term in stage["terms"].values() if term.get("student") == name]
    if any(teacher and teacher != name for teacher in teachers):
        return True
    before = _is_taught(run, name, networks[name]) if networks[name].get("weights") else False
    return bool(before)


def find_pairs(run: Finished) -> list[tuple[str, str]]:
    """Returns the students of the table, each with its control: the same model and size, trained without a teacher."""
    entries, reference = _evaluated(run), run.evaluation.get("reference")
    taught = {name: _is_taught(run, name, entries[name]) for name in run.names if name in entries and name != reference}

    def describe(name: str) -> tuple[Any, ...]:
        sizes = [row.get("parameters") for row in run.rows if row["network"] == name]
        return entries[name].get("model"), sizes[0] if sizes else None

    pairs = []
    for student in (name for name, has_teacher in taught.items() if has_teacher):
        controls = [name for name, has_teacher in taught.items() if has_teacher is False]
        same = [name for name in controls if describe(name) == describe(student)]
        pairs.append((student, same[0] if same else ""))
    return pairs


def measure_difference(run: Finished, left: str, right: str) -> tuple[float, float | None, str]:
    """Returns how much better `left` is than `right`, the error of that, and the words for the error.

    Both need a finite value in one lane at least. The error is `None` if there is one seed and no scores of examples by
    that metric are stored.
    """
    sign = 1.0 if run.measure in MAXIMISED else -1.0
    differences = [sign * (a - b) for a, b in run.pairs(left, right)]
    mean, count = statistics.mean(differences), len(differences)
    if count > 1:
        return mean, statistics.stdev(differences), f"the spread over {count} seeds"
    scores = [run.predictions.get(f"score/{run.measure}/{name}") for name in (left, right)]
    in_lanes = {*run.by_lane(left), *run.by_lane(right)} != {None}
    if in_lanes or scores[0] is None or scores[1] is None:
        return mean, None, ""
    of_examples = scores[0] - scores[1]
    count = int(np.sum(~np.isnan(of_examples)))
    if count < 2:
        return mean, None, ""
    error = 2 * float(np.nanstd(of_examples, ddof=1) / math.sqrt(count))
    return mean, error, f"two standard errors over {count} examples, of one seed"


def _compare_students(run: Finished) -> list[str]:
    sentences = []
    seeds_alone = _swept(run) <= {"seed"}
    pairs = find_pairs(run) if seeds_alone else []
    for student, control in pairs:
        if not control or not run.pairs(student, control):
            continue
        difference, error, words = measure_difference(run, student, control)
        side = "above" if (difference >= 0) == (run.measure in MAXIMISED) else "below"
        start = f"{student} is {abs(difference):.4f} {side} {control} in {run.measure}"
        if difference == 0 and not error:
            sentences.append(f"{student} and {control} are equal in {run.measure}.")
        elif error is None:
            sentences.append(f"{start}; one seed does not show whether that is chance. Sweep the seed: sweep.seed.")
        elif abs(difference) > error:
            worth = "better" if difference > 0 else "worse"
            sentences.append(f"{start}, more than {words} ({error:.4f}): it is {worth}.")
        else:
            sentences.append(f"{start}, no more than {words} ({error:.4f}): these numbers show no difference.")
        sentences += _describe_gap(run, student, control, difference if difference > (error or math.inf) else 0.0)
    if alone := [student for student, control in pairs if not control]:
        names = " and ".join(filter(None, [", ".join(alone[:-1]), alone[-1]]))
        verb = "has" if len(alone) == 1 else "have"
        sentences.append(
            f"{names} {verb} no control: train a network of the same model without the teacher, and evaluate it, to see"
            " what the teacher adds."
        )
    return sentences


def _describe_gap(run: Finished, student: str, control: str, gain: float) -> list[str]:
    """Describes the gap between control and teacher, and how much of it a gain closes that is beyond its error."""
    teacher = run.evaluation.get("reference") or ""
    if teacher not in run.names or not run.pairs(teacher, control):
        return []
    gap, error, words = measure_difference(run, teacher, control)
    if gap <= (error or 0.0):
        reason = f"by more than {words}" if error is not None and gap > 0 else ""
        return [f"{teacher} is not better than {control} {reason}".rstrip() + ": there is no gap to close."]
    share = f"{student} closes {gain / gap:.0%} of the gap of {gap:.4f} between {control} and {teacher}."
    return [share] if gain > 0 else []


def _describe_calibration(run: Finished) -> list[str]:
    teacher = run.evaluation.get("reference") or ""
    errors = run.values(teacher, "ece") if teacher else []
    if not errors:
        return []
    error = statistics.mean(errors)
    if error <= CALIBRATED:
        return [f"{teacher} is calibrated: its expected calibration error is {error:.4f}."]
    side = _describe_side(run, teacher, error)
    return [
        f"{teacher} is not calibrated: its expected calibration error is {error:.4f}{side}. Another temperature of the"
        " terms may teach more."
    ]


def _describe_side(run: Finished, network: str, error: float) -> str:
    """Describes whether a network is too sure or not sure enough; "" if the predictions do not show it."""
    label, confidence = run.predictions.get("label"), run.predictions.get(f"confidence/{network}")
    prediction = run.predictions.get(f"prediction/{network}")
    if label is None or confidence is None or prediction is None or label.shape != confidence.shape:
        return ""
    counted = label >= 0
    sure, right = float(np.mean(confidence[counted])), float(np.mean((prediction == label)[counted]))
    if not abs(sure - right) > error / 2:  # the errors of its bins have both signs
        return ""
    side = "it is overconfident" if sure > right else "its probabilities are too flat"
    return f", and {side} (mean confidence {sure:.4f}, accuracy {right:.4f})"


def _swept(run: Finished) -> set[str]:
    """Returns the settings in which lanes differ."""
    if not any("lane" in row for row in run.rows):
        return set()
    return {name for lane in lanes.settings_of_lanes(run.rows, run.stages, run.config) for name in lane}


def _describe_sweep(run: Finished) -> list[str]:
    """Describes whether the best value of each swept number lies at the edge of what was swept."""
    if not _swept(run) - REPEATED:
        return []
    settings = lanes.settings_of_lanes(run.rows, run.stages, run.config)
    students = [name for name, _ in find_pairs(run)] or [name for name in run.names if len(run.values(name)) > 1]
    best_of = max if run.measure in MAXIMISED else min
    sentences = []
    for student in students:
        values = run.by_lane(student)
        if None in values:
            continue
        for name in sorted(_swept(run) - REPEATED):
            by_value: dict[float, list[float]] = {}
            for lane, setting in enumerate(settings):
                if isinstance(setting.get(name), int | float) and lane in values:
                    by_value.setdefault(float(setting[name]), []).append(values[lane])
            if len(by_value) < 2:
                continue
            means = {value: statistics.mean(results) for value, results in by_value.items()}
            best = best_of(means, key=lambda value: means[value])
            edges = {min(means): "smallest", max(means): "largest"}
            sentences.append(
                f"{student} is best at {name}={best:g}, the {edges[best]} value swept: values beyond it may be better."
                if best in edges
                else f"{student} is best at {name}={best:g}, within those swept, {min(means):g} to {max(means):g}."
            )
    return sentences


def _describe_time(run: Finished) -> list[str]:
    sentences = []
    if total := sum(run.seconds.values()):
        shares = sorted(run.seconds.items(), key=lambda item: -item[1])
        parts = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in shares if seconds >= 0.05 * total)
        sentences.append(f"The stages took {_format_seconds(total)}: {parts}.")
    waits = {name: _measure_wait(run, name) for name in run.stages}
    return sentences + [
        f"Stage {name} waited for data {wait:.0%} of its time." for name, wait in waits.items() if wait > COSTLY
    ]


def _measure_wait(run: Finished, stage: str) -> float:
    """Returns the fraction of the time of a stage that it waited for data; 0 for a few steps, which show nothing."""
    keys = ("data_wait", "examples_per_second")
    lines = [line for line in run.stages[stage] if all(isinstance(line.get(key), int | float) for key in keys)]
    batch = (run.config.get("stages") or {}).get(stage, {}).get("batch", 0)
    # The first line has steps whose time does not count, those that waited for the compiler.
    windows = [
        (line["data_wait"], (line["step"] - before["step"]) * batch / line["examples_per_second"])
        for before, line in itertools.pairwise(lines)
    ]
    total = sum(seconds for _, seconds in windows)
    return sum(wait * seconds for wait, seconds in windows) / total if total >= LONG and len(lines) >= SEVERAL else 0.0


def _format_seconds(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
