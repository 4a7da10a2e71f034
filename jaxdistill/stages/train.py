"""Stages of kind "train": from the start, or the last checkpoint, to the end, with evaluations and checkpoints."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Collection
from typing import Any

import jax

from jaxdistill.build import caches, validate
from jaxdistill.build.kind import Kind, Program
from jaxdistill.build.origins import save_featurizer, saved_metadata
from jaxdistill.build.runs import Runs, Weights
from jaxdistill.build.stage import Stage
from jaxdistill.config.durations import Steps
from jaxdistill.config.members import OptimizerConfig, ScheduleConfig, TermConfig, default_optimizer
from jaxdistill.config.parse import option
from jaxdistill.config.schema import CheckpointConfig, StageSettings
from jaxdistill.core import State
from jaxdistill.generation.on_policy import OnPolicy
from jaxdistill.runtime import topology
from jaxdistill.stages import precision_report, selected_steps, start_weights, training_plan
from jaxdistill.stages.evaluate import SplitEvaluator, evaluation_program
from jaxdistill.stages.pca import fitted_heads
from jaxdistill.train import mesh
from jaxdistill.train.alarm import Alarm
from jaxdistill.train.checkpoint import Checkpoints
from jaxdistill.train.evaluate import Evaluation
from jaxdistill.train.init import compiler_options
from jaxdistill.train.loop import Intervals, Training, fit
from jaxdistill.train.parts import gather_numbers
from jaxdistill.train.prefetch import PREFETCH


@dataclasses.dataclass(frozen=True)
class TrainSettings(StageSettings):
    """Settings of a stage that trains."""

    steps: Steps = option(0, "optimizer steps", least=0)
    accumulate: int = option(1, "micro-batches of a step", least=1)
    terms: dict[str, TermConfig] = option(dict, "terms of the loss by name")
    on_policy: OnPolicy = option(OnPolicy, "texts that a network writes in each step")
    optimizer: OptimizerConfig = option(default_optimizer, "optimizer and its arguments")
    learning_rate: ScheduleConfig = option(ScheduleConfig(0.1), "learning rate")
    checkpoint: CheckpointConfig = option(CheckpointConfig, "checkpoints")
    log_every: Steps = option(50, "steps between lines of the log", least=0, free=True)
    steps_per_call: int = option(0, "steps of one dispatch; 0 for automatic", least=0, free=True)
    peak_flops: float = option(0.0, "peak FLOP/s of a device, for utilisation", least=0, free=True)


class Train(Kind):
    """Trains networks by terms."""

    settings = TrainSettings
    trains = True

    def saved(self, stage: Stage) -> list[str]:
        return [name for name, source in stage.networks.items() if name in stage.shapes.variables and not source.frozen]

    def initialised(self, stage: Stage) -> list[str]:
        return [name for name in self.saved(stage) if name not in fitted_heads(stage.networks)]

    def measured(self, stage: Stage) -> list[str]:
        evaluate = stage.settings.evaluate
        if evaluate.split not in stage.data.dataset.splits:
            return []
        learning = [name for name in self.saved(stage) if stage.networks[name].evaluated_by_default]
        return list(evaluate.networks) or (learning if evaluate.metrics else [])

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        return [("train", True, [*stage.networks])]

    def split(self, stage: Stage) -> tuple[str, int]:
        return "train", len(stage.data.train)

    def check(self, stage: Stage) -> None:
        validate.check_training(stage)
        super().check(stage)
        selected_steps.check(stage)
        validate.check_optimizer(stage)
        validate.check_views(stage)
        validate.check_on_policy(stage)
        caches.check_cycle(stage)

    def describe_data(self, stage: Stage) -> list[str]:
        return training_plan.describe_data(stage)

    def describe(self, stage: Stage) -> list[str]:
        return training_plan.describe(stage)

    def programs(self, stage: Stage) -> dict[str, Callable[[], Program]]:
        step = {"step": functools.partial(training_plan.step_program, stage)}
        return step | evaluation_program(stage)

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        read = functools.partial(start_weights.read, stage.runs, workdir)
        return run(stage, read, workdir, log, profile=profile)


def run(
    stage: Stage,
    read_weights: Callable[[Collection[str]], Weights],
    workdir: pathlib.Path,
    log: Callable[[str], None],
    profile: int = 0,
) -> dict[str, Any]:
    """Trains, evaluates and saves one stage; resumes from its last checkpoint.

    Args:
        read_weights: `names -> weights`, reads the variables of those networks that do not start at random.
        workdir: the run's.
        log: prints a line.
        profile: the number of early steps that are recorded.

    Returns:
        The contents of `done.json`.
    """
    settings, runs = stage.settings, stage.runs
    frozen, reduced = _frozen(runs, read_weights(stage.shapes.frozen), log)
    training = _training(runs, frozen, log, profile)
    save_featurizer(stage, workdir / stage.name)
    with checkpoints(runs, workdir) as saved:
        start = max(saved.steps, default=0)
        if start:
            state = saved.restore(start, mesh.structs(runs.shapes()[0], training.shardings))
            log(f"stage {stage.name}: resumes at step {start} of {settings.steps}")
        else:
            state = _init(runs, read_weights, frozen)
        metadata = {**saved_metadata(stage), **runs.checkpoint_metadata}
        fit(training, state, frozen, start=start, checkpoints=saved, workdir=workdir, metadata=metadata)
        if settings.checkpoint.keep == "last":
            return {"step": settings.steps, "kept": "last"} | reduced
        return selected_steps.select(stage, runs, saved) | reduced


def _training(runs: Runs, frozen: Weights, log: Callable[[str], None], profile: int) -> Training:
    """Returns the stage in the form that the loop trains."""
    stage, settings = runs.stage, runs.stage.settings
    return Training(
        stage=stage.name,
        step=runs.step(),
        loader=runs.loader(),
        mesh=stage.mesh,
        shardings=runs.shardings()[0],
        batch=settings.batch,
        examples=len(stage.data.train),
        learning_rates=runs.learning_rates(),
        intervals=Intervals(
            steps=settings.steps,
            evaluate_every=settings.evaluate.every,
            save_every=settings.checkpoint.every,
            log_every=settings.log_every,
            steps_per_call=settings.steps_per_call or _steps_per_call(stage),
        ),
        evaluate=_evaluation(runs, frozen) if stage.evaluation.networks else None,
        prefetch=0 if stage.data.resident else PREFETCH,
        peak_flops=settings.peak_flops,
        profile_steps=profile,
        alarm=Alarm(settings.on_policy.bounds, stops=settings.on_policy.alarm == "stop"),
        trackers=settings.trackers,
        log=log,
    )


def _frozen(runs: Runs, weights: Weights, log: Callable[[str], None]) -> tuple[Weights, dict[str, Any]]:
    """Returns the frozen variables that the step takes, and what reducing them costs in accuracy."""
    report = precision_report.report(runs, weights, log)
    sources = runs.stage.networks
    return {name: sources[name].partition(x)[2] for name, x in runs.for_inference(weights).items()}, report


def checkpoints(runs: Runs, workdir: pathlib.Path) -> Checkpoints:
    """Returns the checkpoints of a stage."""
    stage, numbers = runs.stage, [*dict.fromkeys(selected_steps.find_rankings(runs.stage).values())]
    able = [number.rpartition("/")[2] for number in numbers if number in stage.evaluation.ranking]
    mode = stage.evaluation.metrics[able[0]].better if able else "max"
    ranked_by = [name for number in numbers for name in runs.ranked_by(number)]
    return Checkpoints(workdir / stage.name, ranked_by, mode, stage.settings.checkpoint.max_to_keep)


def _init(runs: Runs, read_weights: Callable[[Collection[str]], Weights], frozen: Weights) -> State:
    """Returns the first state, every array of it made where it will live."""
    init = jax.jit(runs.init, out_shardings=runs.shardings()[0], compiler_options=compiler_options())
    return init(read_weights([name for name in runs.stage.networks if name not in frozen]) | frozen)


def _steps_per_call(stage: Stage) -> int:
    # By benchmarks/dispatch.py: on a CPU tiny MLPs gain from a scan over steps and convolutions lose much more by it;
    # elsewhere small models wait for dispatch (not measured).
    return 1 if topology.backend() == "cpu" or not stage.data.resident else 32


def _evaluation(runs: Runs, frozen: Weights) -> Callable[[State], dict[str, Any]]:
    """Returns `state -> the line of an evaluation` for the log."""
    evaluator = SplitEvaluator(runs)

    def evaluate(state: State) -> dict[str, Any]:
        numbers = [_numbers(run) for run in evaluator.evaluate(state.params, state.variables, frozen)]
        return {"split": runs.stage.settings.evaluate.split} | runs.join_numbers(numbers)

    return evaluate


def _numbers(evaluation: Evaluation) -> dict[str, float]:
    """Returns the numbers of an evaluation as `NETWORK/METRIC`, and `NETWORK/METRIC:VALUE` of its parts."""
    return {
        f"{name}/{metric}": value
        for name, values in evaluation.values.items()
        for metric, value in gather_numbers(
            values, {route: part.values[name] for route, part in evaluation.parts.items()}
        ).items()
    }
