"""A ladder: finished runs of several sizes, examples and steps, with the losses of a student and its control.

A network's size is its number of parameters; its examples and steps are those of the stage that trained it, from the
log. Runs that agree in all three are repetitions, such as lanes of several seeds.
"""

import dataclasses
import fnmatch
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.compare.finished_run import FinishedRun, Member, read_run
from jaxdistill.config import references
from jaxdistill.config.flat import is_seed
from jaxdistill.errors import UserError, unknown
from jaxdistill.report import advice
from jaxdistill.report.tables import select_main
from jaxdistill.runtime import files
from jaxdistill.scaling.law import AXES, Array

SWEEP = "sweep.json"
"""The record of a sweep, in whose folder its runs are numbered."""

LOSSES = ("nll", "rmse")
"""Metrics that a ladder is measured by, the first of them that the runs have."""

REPEATED = "data.partition.part"
"""A setting in which repetitions may differ, besides their seeds."""


@dataclasses.dataclass(frozen=True)
class Ladder:
    """Losses of a student and its control by place.

    Attributes:
        axes: those of `AXES` that vary.
        fixed: the values of the others.
        places: `[rungs, axes]`.
        students: the losses of the repetitions of each rung.
        controls: those of the control, in the same order; none without a control.
        names: the student and the control, "" without one.
        metric: the loss.
    """

    axes: tuple[str, ...]
    fixed: Mapping[str, float]
    places: Array
    students: Sequence[Array]
    controls: Sequence[Array]
    names: tuple[str, str]
    metric: str

    @property
    def sides(self) -> list[Sequence[Array]]:
        """The losses of the student, and of the control if there is one."""
        return [self.students, self.controls] if self.controls else [self.students]

    def select(self, largest: Mapping[str, float]) -> "Ladder":
        """Returns the rungs with at most the given value of each axis."""
        limits = np.array([largest.get(axis, math.inf) for axis in self.axes])
        keep = np.flatnonzero((self.places <= limits).all(1))
        return dataclasses.replace(
            self,
            places=self.places[keep],
            students=[self.students[i] for i in keep],
            controls=[self.controls[i] for i in keep] if self.controls else (),
        )


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network of a member of a run.

    Attributes:
        place: parameters, examples and steps.
        repetition: the run and the lane.
        loss: on the evaluated split.
        settings: of the run, without seeds.
    """

    place: tuple[float, ...]
    repetition: tuple[str, int | None]
    loss: float
    settings: Mapping[tuple[str, str], str]


def find_runs(texts: Sequence[str]) -> list[FinishedRun]:
    """Reads the runs of a ladder.

    Args:
        texts: folders of runs, or of sweeps, of which the finished runs count.

    Raises:
        UserError: for other folders, and a sweep without a finished run.
    """
    runs = []
    for text in texts:
        folder = files.input_path("RUN", text)
        if not (folder / SWEEP).is_file():
            runs.append(read_run(text))
            continue
        numbered = sorted(path for path in folder.glob("[0-9][0-9][0-9]*") if (path / "results.json").is_file())
        if not numbered:
            raise UserError(f"RUN must be a sweep with finished runs, got {text!r}. Give its command again")
        runs += [read_run(str(path)) for path in numbered]
    names = [os.path.realpath(run.name) for run in runs]
    if repeated := [run.name for run, name in zip(runs, names, strict=True) if names.count(name) > 1]:
        raise UserError(f"RUN must be named once, got {repeated[0]!r} twice, of its sweep too. Leave one out")
    return runs


def read_ladder(texts: Sequence[str], student: str = "", control: str = "", metric: str = "") -> Ladder:
    """Reads a ladder of finished runs.

    Args:
        texts: folders of runs or sweeps.
        student: its name in the results, or a pattern (`taught_*`) if runs have several sizes of it; by default the
            one student that the runs have.
        control: the same of its control, a network of the same sizes; by default the student's, if there is one.
        metric: a loss of the results, positive and better when it is small; `nll` or `rmse` by default.

    Raises:
        UserError: for runs without these, or that differ in other settings.
    """
    runs = find_runs(texts)
    if not student:
        student, control = find_pair(runs)
    metric = metric or _find_metric(runs)
    sides = [_group(_read_networks(runs, name, metric)) for name in (student, control) if name]
    places = sorted(sides[0])
    losses = [
        [np.array([side[place][who].loss for who in sorted(side[place], key=str)]) for place in places]
        for side in _pair(sides, student, control)
    ]
    varying = [i for i in range(len(AXES)) if len({place[i] for place in places}) > 1]
    if not varying:
        raise UserError("the ladder must have runs of several sizes, numbers of examples or steps, got one setting")
    return Ladder(
        axes=tuple(AXES[i] for i in varying),
        fixed={AXES[i]: places[0][i] for i in range(len(AXES)) if i not in varying},
        places=np.array(places)[:, varying],
        students=losses[0],
        controls=losses[1] if control else (),
        names=(student, control),
        metric=metric,
    )


def find_pair(runs: Sequence[FinishedRun]) -> tuple[str, str]:
    """Returns the student that all runs have, and its control, "" if there is none.

    Raises:
        UserError: if there is no student, or there are several.
    """
    pairs = set()
    for run in runs:
        pairs |= {*advice.find_pairs(_finished(run))}
    if len(pairs) != 1:
        options = ", ".join(f"{student} with {control or 'no control'}" for student, control in sorted(pairs))
        raise UserError(
            f"--student must name a student of the results, got none of these: {options or 'no student'}."
            " Write --student NAME --control NAME, of which one may be a pattern such as 'taught_*'"
        )
    return pairs.pop()


def _finished(run: FinishedRun) -> advice.Finished:
    """Returns the files of a run that its advice on students needs."""
    rows = select_main(run.lane_rows or run.rows)
    return advice.Finished(
        config=run.config, evaluation=run.evaluation, rows=rows, stages=run.stages, predictions={}, seconds={}
    )


def _find_metric(runs: Sequence[FinishedRun]) -> str:
    names = {name for run in runs for row in run.rows for name in row}
    losses = [name for name in LOSSES if name in names]
    if not losses:
        raise UserError(
            f"--metric must be a loss of the results, got none of {list(LOSSES)}. Add nll to evaluate.metrics"
        )
    return losses[0]


def _read_networks(runs: Sequence[FinishedRun], pattern: str, metric: str) -> list[Trained]:
    networks = [trained for run in runs for member in run.members() for trained in _read(member, pattern, metric)]
    if not networks:
        names = {row["network"] for run in runs for row in select_main(run.rows)}
        raise unknown("--student or --control", pattern, names, "a network of the results, or a pattern of some")
    return networks


def _read(member: Member, pattern: str, metric: str) -> Iterator[Trained]:
    run = member.run
    for row in select_main(member.rows):
        if not fnmatch.fnmatchcase(row["network"], pattern):
            continue
        loss, better = row.get(metric), run.evaluation.get("better", {}).get(metric)
        if better != "min" or not isinstance(loss, int | float) or not 0 < loss < math.inf:
            raise UserError(
                f"--metric must be a loss, positive and better when it is small, got {metric!r} with {loss} of"
                f" {row['network']} in {run.name}. Name another, such as nll"
            )
        settings = {key: text for key, text in member.settings.items() if not is_seed(key[1]) and key[1] != REPEATED}
        place = (float(row["parameters"]), *_measure_training(run, row))
        yield Trained(place, (run.name, member.lane), float(loss), settings)


def _measure_training(run: FinishedRun, row: Mapping[str, Any]) -> tuple[float, float]:
    """Returns the examples of the training split and the steps of the stage that trained a network."""
    stages: Mapping[str, Any] = run.config["stages"]
    evaluations = [name for name, stage in stages.items() if stage.get("kind") == "evaluate"]
    networks = stages[row.get("evaluation") or evaluations[-1]].get("networks", {})
    stage = references.parse(networks.get(row["network"], {}).get("weights") or "").stage
    if stage not in stages:
        raise UserError(
            f"--student and --control must be networks that a stage of their run trained, got {row['network']!r} of"
            f" {run.name}. Name another"
        )
    lines = [line for line in run.stages.get(stage, ()) if line.get("epoch")]
    last, steps = lines[-1]["step"] if lines else 0, stages[stage].get("steps", 0)
    if not lines or last < steps:
        raise UserError(
            f"{run.name}/metrics.jsonl must have the {steps} steps of stage {stage!r}, which trained"
            f" {row['network']!r}, got the whole lines of {last}. The file was cut off or removed: bring it back, or"
            " leave this run out"
        )
    examples = lines[-1]["step"] * stages[stage]["batch"] / lines[-1]["epoch"]
    return float(f"{examples:.5g}"), float(lines[-1]["step"])  # the log has seven digits


Side = dict[tuple[float, ...], dict[tuple[str, int | None], Trained]]


def _group(networks: Sequence[Trained]) -> Side:
    """Returns networks by place and repetition.

    Raises:
        UserError: for two networks at one place that differ in more than seeds.
    """
    side: Side = {}
    for network in networks:
        others = side.setdefault(network.place, {})
        first = next(iter(others.values()), network)
        different = sorted({path for (_, path), text in {*network.settings.items()} ^ {*first.settings.items()}})
        if different or network.repetition in others:
            raise UserError(
                "runs of a ladder must differ in size, examples, steps and seeds alone, got two of"
                f" {', '.join(f'{value:,.6g} {axis}' for axis, value in zip(AXES, network.place, strict=True))} that"
                f" differ in {', '.join(different[:4]) or 'the network'}. Leave one of {first.repetition[0]} and"
                f" {network.repetition[0]} out, or name its networks with --student and --control"
            )
        others[network.repetition] = network
    return side


def _pair(sides: Sequence[Side], student: str, control: str) -> Sequence[Side]:
    """Returns both sides; each repetition of the student must have its control."""
    if len(sides) > 1:
        keys = [{(place, who) for place, members in side.items() for who in members} for side in sides]
        if alone := sorted(keys[0] ^ keys[1], key=str):
            place, (run, _) = alone[0]
            raise UserError(
                f"each {student} must have a {control} of the same parameters, examples and steps, got one of them"
                f" alone in {run}, at {', '.join(f'{value:,.6g}' for value in place)}. Name other networks"
            )
    return sides
