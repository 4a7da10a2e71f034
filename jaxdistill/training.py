"""A stage of kind "train": from its start, or where it stopped, to its end, with evaluations and checkpoints."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxdistill import lanes, metrics
from jaxdistill.errors import TrainingFailed
from jaxdistill.stage import Stage
from jaxdistill.train.checkpoint import Checkpoints
from jaxdistill.train.evaluate import Evaluation, Evaluator
from jaxdistill.train.feeding import AHEAD
from jaxdistill.train.init import compiler_options
from jaxdistill.train.loop import Job, fit


def run(
    stage: Stage, starts: Mapping[str, Any], workdir: pathlib.Path, say: Callable[[str], None], profile: int = 0
) -> dict[str, Any]:
    """Trains, evaluates and saves one stage; resumes where its folder has a checkpoint.

    Args:
        starts: the variables of the networks that do not start at random.
        workdir: the run's.
        profile: how many early steps are recorded.

    Returns:
        What is told in `done.json`.
    """
    settings = stage.settings
    placed = lanes.placed(stage)
    init = jax.jit(
        lambda starts: lanes.initial(stage, starts), out_shardings=placed, compiler_options=compiler_options()
    )
    state, frozen = init(starts)
    best = settings["checkpoint"]["by"] or next(iter(stage.numbers), "")
    mode = metrics.find(best.rpartition("/")[2]).better if best else "max"
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
    with Checkpoints(workdir / stage.name, best, mode, settings["checkpoint"]["latest"]) as kept:
        if kept.steps:
            shapes = lanes.shapes(stage)[0]
            like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, placed[0])
            state = kept.restore(kept.steps[-1], like)
            say(f"stage {stage.name}: resumes at step {kept.steps[-1]} of {job.steps}")
        looks = {n: dataclasses.asdict(look) for n, look in stage.looks.items() if n in stage.saved}
        about = {"stage": stage.name, "networks": sorted(stage.saved), "looks": looks, "lanes": len(stage.lanes)}
        fit(job, state, frozen, kept, workdir, about)
        if settings["checkpoint"]["keep"] == "last":
            return {"step": job.steps, "kept": "last"}
        if kept.best() is None:
            raise TrainingFailed(f"stage {stage.name!r} is to keep what is best by {best}, which was never finite")
        return {"step": kept.best(), "kept": "best", "by": best}


def _dispatch(stage: Stage) -> int:
    # By benchmarks/dispatch.py: on a CPU tiny MLPs gain from a scan over steps and convolutions lose much more by it;
    # elsewhere small models wait for dispatch (not measured).
    return 1 if jax.default_backend() == "cpu" or not stage.resident else 32


def evaluator(stage: Stage) -> Callable[[Any, Any, Any], Evaluation]:
    """What measures a stage's networks, `(params, variables, frozen) -> Evaluation`, on its split."""
    measure = Evaluator(
        stage.networks, stage.measured, stage.metrics(), stage.reference, stage.prepare, stage.mesh, stage.pairs
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

    def one(params, variables) -> dict[str, float]:
        found = measure(params, variables, frozen)
        return {
            f"{name}/{metric}": value
            for name, values in found.values.items()
            for metric, value in values.items()
            if isinstance(value, float)
        }

    of_all = lanes.each(stage, one)
    return lambda state: {"split": stage.settings["evaluate"]["split"]} | of_all(state)
