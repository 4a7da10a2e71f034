"""The checkpoint steps that a training stage selects: one for all of its networks, or the best of each unit."""

from typing import Any

from jaxdistill.build.runs import Runs
from jaxdistill.build.stage import Stage
from jaxdistill.errors import TrainingFailed, UserError
from jaxdistill.train.checkpoint import Checkpoints

Rankings = dict[tuple[str, ...], str]
"""The number that ranks the steps, by the networks whose step it selects; () for all others."""


def find_rankings(stage: Stage) -> Rankings:
    """Returns the numbers that rank the checkpoints of a stage; none if it measures nothing that can.

    `checkpoint.metric` names one number, `NETWORK/METRIC`, for all networks. A metric alone, or nothing, ranks the
    steps of each unit by its own number; the first of them counts for networks that are not measured by default, such
    as a head on a frozen network.
    """
    chosen, ranking = stage.settings.checkpoint.metric, stage.evaluation.ranking
    if "/" in chosen:
        return {(): chosen}
    able = [number for number in ranking if not chosen or number.rpartition("/")[2] == chosen]
    if not able:
        return {}
    numbers_of = {u.networks: [n for n in able if n.rpartition("/")[0] in u.networks] for u in stage.units}
    by_unit = {networks: numbers[0] for networks, numbers in numbers_of.items() if numbers}
    return {(): able[0]} | (by_unit if len(by_unit) > 1 else {})


def check(stage: Stage) -> None:
    """Checks that each network that learns by itself has a number by which its checkpoint can be the best.

    Raises:
        UserError: for a network that would get the step of another, which was best for that one alone.
    """
    checkpoint, first = stage.settings.checkpoint, find_rankings(stage).get((), "")
    if checkpoint.keep != "best" or "/" in checkpoint.metric or not first:
        return
    measured = {number.rpartition("/")[0] for number in stage.evaluation.ranking}
    for unit in stage.units:
        sources = {name: stage.networks[name] for name in unit.networks}
        alone = [name for name, source in sources.items() if source.learns and source.evaluated_by_default]
        if alone and not measured & {*unit.networks}:
            raise UserError(
                f"stages.{stage.name}.evaluate.networks must have {alone[0]!r}, which has a best checkpoint of its own,"
                f" got {sorted(measured)}. Add it, or choose one step for all networks by checkpoint.metric={first!r}"
            )


def select(stage: Stage, runs: Runs, saved: Checkpoints) -> dict[str, Any]:
    """Returns the selected steps of a finished stage, for `done.json`.

    Raises:
        TrainingFailed: if a number that ranks the steps was never finite.
    """
    selected: dict[tuple[str, ...], dict[str, Any]] = {}
    for networks, number in find_rankings(stage).items():
        steps = [saved.best(name) for name in runs.ranked_by(number)]
        if None in steps:
            raise TrainingFailed(
                f"stage {stage.name!r} keeps the checkpoint that is best by {number}, which was never finite"
            )
        selected[networks] = runs.selected([step for step in steps if step is not None]) | {"by": number}
    by_network = {name: row for networks, row in selected.items() for name in networks}
    return selected[()] | {"kept": "best"} | ({"selected": by_network} if by_network else {})
