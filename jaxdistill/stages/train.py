"""A stage of kind "train": from its start, or where it stopped, to its end, with evaluations and checkpoints."""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from jaxdistill.build.stage import Stage
from jaxdistill.core import State
from jaxdistill.errors import TrainingFailed
from jaxdistill.stages import lanes, precision_report
from jaxdistill.train import mesh
from jaxdistill.train.checkpoint import Checkpoints
from jaxdistill.train.evaluate import Evaluation, Evaluator
from jaxdistill.train.init import compiler_options
from jaxdistill.train.loop import Job, fit
from jaxdistill.train.prefetch import AHEAD


def run(
    stage: Stage,
    starts: Callable[[Collection[str]], Mapping[str, Any]],
    workdir: pathlib.Path,
    say: Callable[[str], None],
    profile: int = 0,
) -> dict[str, Any]:
    """Trains, evaluates and saves one stage; resumes where its folder has a checkpoint.

    Args:
        starts: reads the variables of networks, of those among the names that do not start at random.
        workdir: the run's.
        profile: how many early steps are recorded.

    Returns:
        What is told in `done.json`.
    """
    settings = stage.settings
    placed = lanes.placed(stage)
    frozen, lost = _frozen(stage, starts(stage.shapes[1]), say)
    job = Job(
        stage=stage.name,
        step=lanes.step(stage),
        loader=lanes.feeder(stage),
        mesh=stage.mesh,
        placed=placed[0],
        steps=settings["steps"],
        batch=settings["batch"],
        examples=len(stage.train),
        rate=lanes.rate(stage),
        evaluate=_evaluation(stage, frozen) if stage.measured else None,
        evaluate_every=settings["evaluate"]["every"],
        log_every=settings["log_every"],
        save_every=settings["checkpoint"]["every"],
        dispatch=settings["dispatch"] or _dispatch(stage),
        ahead=0 if stage.resident else AHEAD,
        peak=settings["peak_flops"],
        profile=profile,
        say=say,
    )
    with checkpoints(stage, workdir) as kept:
        if kept.steps:
            state = kept.restore(kept.steps[-1], mesh.structs(lanes.shapes(stage)[0], placed[0]))
            say(f"stage {stage.name}: resumes at step {kept.steps[-1]} of {job.steps}")
        else:
            state = _born(stage, starts, frozen)
        looks = {n: dataclasses.asdict(look) for n, look in stage.looks.items() if n in stage.saved}
        about = {"stage": stage.name, "networks": sorted(stage.saved), "looks": looks, "lanes": len(stage.lanes)}
        fit(job, state, frozen, kept, workdir, about)
        if settings["checkpoint"]["keep"] == "last":
            return {"step": job.steps, "kept": "last"} | lost
        steps = [kept.best(lane) for lane in range(len(kept.ranked))]
        if None in steps:
            raise TrainingFailed(
                f"stage {stage.name!r} is to keep what is best by {kept.metric}, which was never finite"
            )
        stood_by = {"steps": steps} if stage.lanes else {"step": steps[0]}
        return stood_by | {"kept": "best", "by": kept.metric} | lost


def _frozen(stage: Stage, known: Mapping[str, Any], say: Callable) -> tuple[dict[str, Any], dict[str, Any]]:
    """The frozen networks, each there once, as it was read or as it was reduced to; and what that has lost."""
    lost = precision_report.report(stage, lanes.first(stage, known), say)
    return {name: stage.networks[name].place(own)[2] for name, own in lanes.reduced(stage, known).items()}, lost


def checkpoints(stage: Stage, workdir: pathlib.Path) -> Checkpoints:
    """The checkpoints of a stage, by the number that it is told, or finds first, to be the best by."""
    best = stage.settings["checkpoint"]["by"] or next(iter(stage.numbers), "")
    mode = stage.metrics()[best.rpartition("/")[2]].better if best in stage.numbers else "max"
    return Checkpoints(workdir / stage.name, best, mode, stage.settings["checkpoint"]["latest"], len(stage.lanes))


def _born(stage: Stage, starts: Callable, frozen: Mapping[str, Any]) -> State:
    """The first state, every array of it made where it will live."""
    init = jax.jit(
        lambda starts: lanes.initial(stage, starts)[0],
        out_shardings=lanes.placed(stage)[0],
        compiler_options=compiler_options(),
    )
    return init(starts([name for name in stage.networks if name not in frozen]) | frozen)


def _dispatch(stage: Stage) -> int:
    # By benchmarks/dispatch.py: on a CPU tiny MLPs gain from a scan over steps and convolutions lose much more by it;
    # elsewhere small models wait for dispatch (not measured).
    return 1 if jax.default_backend() == "cpu" or not stage.resident else 32


def evaluator(stage: Stage) -> Callable[[Any, Any, Any], Evaluation]:
    """What measures a stage's networks, `(params, variables, frozen) -> Evaluation`, on its split."""
    measure = Evaluator(
        stage.networks,
        stage.measured,
        stage.metrics(),
        stage.compared,
        stage.prepare,
        stage.mesh,
        stage.pairs,
        len(stage.lanes),
        lambda measure: lanes.abreast(stage, measure),
    )
    split = stage.settings["evaluate"]["split"]
    if not stage.is_held(split):
        return lambda *known: measure(*known, stage.once(split))
    held = []

    def of_held(*known):
        held[:] = held or measure.hold(*known, stage.once(split))
        return measure.held(*known, held)

    return of_held


def _evaluation(stage: Stage, frozen: Any) -> Callable:
    measure = evaluator(stage)

    def numbers(found: Evaluation) -> dict[str, float]:
        return {
            f"{name}/{metric}": value
            for name, values in found.values.items()
            for metric, value in values.items()
            if isinstance(value, float)
        }

    def evaluate(state) -> dict[str, Any]:
        found = measure(state.params, state.variables, frozen)
        told = lanes.told([numbers(one) for one in found]) if stage.lanes else numbers(found)
        return {"split": stage.settings["evaluate"]["split"]} | told

    return evaluate
