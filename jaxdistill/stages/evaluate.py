"""Stages of kind "evaluate": measure finished networks on a split and write the results of the run."""

import contextlib
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax

from jaxdistill.build.kind import Kind, Program
from jaxdistill.build.runs import Runs, Weights
from jaxdistill.build.stage import Stage
from jaxdistill.errors import UserError, check_names
from jaxdistill.runtime import preemption
from jaxdistill.stages import cost, examples, saliency, sample_texts, start_weights
from jaxdistill.stages.results import disagreements, write_results
from jaxdistill.train import mesh as sharding
from jaxdistill.train.evaluate import Evaluation, Evaluator, Plan
from jaxdistill.train.metrics_log import Trackers


class Evaluate(Kind):
    """Evaluates networks, compares pairs of them, and writes `results.json`."""

    selects_examples = False
    inherits_lanes = True
    writes_results = True

    def measured(self, stage: Stage) -> list[str]:
        evaluate = stage.settings.evaluate
        return list(evaluate.networks or stage.networks) if evaluate.split in stage.data.dataset.splits else []

    def pairs(self, stage: Stage, reference: str) -> list[tuple[str, str]]:
        to_reference = [(name, reference) for name in self.measured(stage) if reference not in ("", name)]
        named = [tuple(pair.split(":", 1)) for pair in stage.settings.evaluate.pairs]
        return [*dict.fromkeys([*to_reference, *named])]

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        return []

    def check(self, stage: Stage) -> None:
        _check_pairs(stage)
        super().check(stage)
        _check_references(stage)

    def programs(self, stage: Stage) -> dict[str, Callable[[], Program]]:
        return evaluation_program(stage)

    def is_done(self, stage: Stage, workdir: pathlib.Path) -> bool:
        return super().is_done(stage, workdir) and (workdir / "results.json").exists()

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        runs = stage.runs
        variables, reports = start_weights.read_for_inference(runs, workdir, log)
        evaluations = SplitEvaluator(runs, preemption.checked).evaluate({}, {}, variables)
        maps = None
        if stage.evaluation.draws_saliency:
            shown = evaluations[0].index[disagreements(stage, evaluations[0])]
            maps = saliency.compute_saliency(stage, runs.first(variables), shown)
        drawn = examples.compute_pictures(stage, runs.first(variables))
        texts = sample_texts.compute_texts(stage, runs.first(variables))
        costs = cost.measure(runs, variables)
        if jax.process_index() == 0:
            rows = write_results(workdir, runs, evaluations, costs=costs, saliency=maps, pictures=drawn, texts=texts)
            with contextlib.closing(Trackers(stage.settings.trackers, workdir, stage.name, 0, log=log)) as trackers:
                trackers.write_results(rows)
        return {"examples": len(evaluations[0].label), "split": stage.settings.evaluate.split} | reports


class SplitEvaluator:
    """Evaluates the runs of a stage on its split; a split that fits is put on the devices once.

    Args:
        runs: those of the stage.
        watch: passes on the pieces of the split; `preemption.checked` where a signal may end an evaluation.
    """

    def __init__(self, runs: Runs, watch: Callable[[Iterable[Any]], Iterable[Any]] = iter):
        stage = runs.stage
        self._watch = watch
        self._runs, self._data, self._split = runs, stage.data, stage.settings.evaluate.split
        self._plan = Plan(
            networks=stage.networks,
            names=stage.evaluation.networks,
            metrics=stage.evaluation.metrics,
            prepare=stage.data.prepare,
            predict=stage.data.task.predict,
            reference=stage.evaluation.measured_reference,
            pairs=stage.evaluation.pairs,
            window=stage.settings.evaluate.window,
            routes=stage.data.dataset.routes,
        )
        step, truth = runs.evaluate_step(self._plan.step), stage.data.task.truth
        self._evaluator = Evaluator(step, stage.mesh, truth=truth)
        self._resident: list[Any] | None = None

    def evaluate(self, params: Any, variables: Any, frozen: Weights) -> list[Evaluation]:
        """Returns the evaluation of each run."""
        weights = params, variables, frozen
        total, rows = self._evaluator.evaluate(weights, self._watch(self._pieces(weights)))
        return [self._plan.finish(measurement, rows) for measurement in self._runs.split(total)]

    def program(self) -> Program:
        """Returns the evaluation of one batch as a program."""
        mesh = self._evaluator.mesh
        raw = {key: x[None] for key, x in self._data.blank_batch(self._split).items()}
        shapes = sharding.batch_structs(mesh, raw, leading=1)
        batch = sharding.structs(shapes, dict.fromkeys(shapes, sharding.over_rows(mesh, leading=1)))
        state, frozen = sharding.structs(self._runs.shapes(), self._runs.shardings())
        weights = (state.params, state.variables, frozen)
        return Program(self._evaluator.compiled, (*weights, batch), self._data.evaluation_batch_size)

    def _pieces(self, weights: tuple[Any, Any, Weights]) -> Iterable[Any]:
        batches = self._data.batches(self._split)
        if not self._data.is_resident(self._split):
            return self._evaluator.stream(batches)
        if self._resident is None:
            self._resident = self._evaluator.to_device(weights, batches)
        return self._resident


def evaluation_program(stage: Stage) -> dict[str, Callable[[], Program]]:
    """Returns the function that makes the program of a stage's evaluation, under its name; none if it has none."""
    return {"evaluation": lambda: SplitEvaluator(stage.runs).program()} if stage.evaluation.networks else {}


def _check_pairs(stage: Stage) -> None:
    """Raises `UserError` unless `evaluate.pairs` are pairs of two networks of the stage."""
    options = [*stage.networks]
    for pair in stage.settings.evaluate.pairs:
        names = pair.split(":") if isinstance(pair, str) else []
        if len(names) != 2 or names[0] == names[1]:
            raise UserError(f"evaluate.pairs has {pair!r}; a pair is 'network:reference', two of {options}")
        check_names(f"network in {pair!r} of evaluate.pairs", names, options)


def _check_references(stage: Stage) -> None:
    """Raises `UserError` if metrics of fidelity have no reference, or pairs no such metric."""
    evaluation, pairs = stage.evaluation, stage.settings.evaluate.pairs
    fidelity = evaluation.fidelity_metrics
    if fidelity and not evaluation.reference and not pairs:
        raise UserError(
            f"metrics {[*fidelity]} compare with a reference; set evaluate.reference to one of {[*stage.networks]}, or"
            " evaluate.pairs to some ('network:reference', ...)"
        )
    if pairs and not fidelity and not evaluation.draws_saliency:
        task = stage.data.task
        able = [name for name in task.metrics if task.metric(name).needs_reference]
        raise UserError(f"evaluate.pairs compares nothing; name some of {able} in evaluate.metrics")
