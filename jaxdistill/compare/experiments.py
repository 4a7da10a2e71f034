"""Experiments: the members of runs that differ in their seeds alone, with means, spreads and names."""

import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxdistill.compare.finished_run import FinishedRun, Member
from jaxdistill.config.flat import list_differences

Place = tuple[str, str]
"""A network and the evaluation that measured it; "" if its run has one evaluation."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Repetitions of one setting.

    Attributes:
        name: for tables.
        members: runs or lanes, which differ in their seeds alone.
    """

    name: str
    members: Sequence[Member]

    def places(self) -> list[Place]:
        """Returns the networks with their evaluations, in order."""
        return list(dict.fromkeys(place_of(row) for member in self.members for row in member.rows))

    def rows(self, place: Place) -> list[Mapping[str, Any]]:
        """Returns the rows of a network, one for each repetition; a row that lanes share counts once."""
        rows = [row for member in self.members for row in member.rows if place_of(row) == place]
        return list({id(row): row for row in rows}.values())

    def by_seed(self, place: Place) -> dict[str, Mapping[str, Any]]:
        """Returns the row of a network for each seed."""
        return {member.seed: row for member in self.members for row in member.rows if place_of(row) == place}

    def mean(self, place: Place, column: str) -> float | None:
        """Returns the mean of a column over the repetitions; `None` if a value is missing."""
        values = [row.get(column) for row in self.rows(place)]
        numbers = [value for value in values if isinstance(value, int | float)]
        return statistics.mean(numbers) if numbers and len(numbers) == len(values) else None


def place_of(row: Mapping[str, Any]) -> Place:
    """Returns the network and the evaluation of a row."""
    return row["network"], row.get("evaluation", "")


def group_members(runs: Iterable[FinishedRun]) -> list[Experiment]:
    """Groups the members of runs that differ in their seeds alone.

    Members that differ in nothing are no repetitions, so that each run of them stands for itself.
    """
    groups: dict[Any, list[Member]] = {}
    for member in itertools.chain.from_iterable(run.members() for run in runs):
        groups.setdefault(member.setting, []).append(member)
    whole: list[list[Member]] = []
    for members in groups.values():
        if len({member.seed for member in members}) == len(members):
            whole.append(members)
        else:
            by_run = itertools.groupby(members, key=lambda member: member.run.name)
            whole += [list(of_run) for _, of_run in by_run]
    return [Experiment(name, members) for name, members in zip(_name_all(whole), whole, strict=True)]


def _name_all(groups: Sequence[Sequence[Member]]) -> list[str]:
    """Returns the runs of each group as its name; the settings that differ follow if groups share their runs."""
    names = [_name_runs(list(dict.fromkeys(member.run.name for member in members))) for members in groups]
    differences = list_settings(groups)
    return [
        f"{name} ({', '.join(f'{shorten(path)} {values[number]}' for path, values in differences)})"
        if names.count(name) > 1 and differences
        else name
        for number, name in enumerate(names)
    ]


def _name_runs(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}"


def list_settings(groups: Iterable[Sequence[Member]]) -> list[tuple[str, tuple[str, ...]]]:
    """Lists the settings other than seeds in which groups differ, with the value of each."""
    return list_differences([dict(members[0].setting) for members in groups])


def shorten(path: str) -> str:
    """Returns the last part of the path of a setting."""
    return path.rpartition(".")[2]
