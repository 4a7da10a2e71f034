"""Stages of kind "evaluate": measure finished networks on a split and write the results of the run."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from jaxdistill.build import evaluation
from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.stages import saliency, start_weights, train
from jaxdistill.stages.lanes import runs_of
from jaxdistill.stages.results import disagreements, write_results


class Evaluate(Kind):
    """Evaluates networks, compares pairs of them, and writes `results.json`."""

    selects_examples = False
    inherits_lanes = True
    writes_results = True

    def measured(self, stage: Stage) -> list[str]:
        evaluate = stage.settings.evaluate
        return list(evaluate.networks or stage.networks) if evaluate.split in stage.dataset.splits else []

    def pairs(self, stage: Stage) -> list[tuple[str, str]]:
        reference = stage.reference
        to_reference = [(name, reference) for name in stage.measured if reference not in ("", name)]
        named = [tuple(pair.split(":", 1)) for pair in stage.settings.evaluate.pairs]
        return [*dict.fromkeys([*to_reference, *named])]

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        return []

    def check(self, stage: Stage) -> None:
        evaluation.check_pairs(stage)
        super().check(stage)
        evaluation.check_references(stage)

    def is_done(self, stage: Stage, workdir: pathlib.Path) -> bool:
        return super().is_done(stage, workdir) and (workdir / "results.json").exists()

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        runs = runs_of(stage)
        variables, reports = start_weights.read_for_inference(runs, workdir, log)
        evaluations = train.evaluator(runs)({}, {}, variables)
        maps = None
        if stage.saliency:
            examples = evaluations[0].index[disagreements(stage, evaluations[0])]
            maps = saliency.find(stage, runs.first(variables), examples)
        if jax.process_index() == 0:
            write_results(workdir, runs, evaluations, maps)
        return {"examples": len(evaluations[0].label), "split": stage.settings.evaluate.split} | reports
