"""Stages in order, each in its own folder, each skipped when it is done.

Everything that can be wrong with any stage is looked for before the first one starts.
"""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxdistill import build, environment, networks, weights
from jaxdistill import config as configs
from jaxdistill.build import Stage
from jaxdistill.data import loader
from jaxdistill.errors import TrainingFailed, UserError, unknown
from jaxdistill.results import write_results
from jaxdistill.train import sharding
from jaxdistill.train.checkpoint import Checkpoints
from jaxdistill.train.evaluate import Evaluator
from jaxdistill.train.init import compiler_options
from jaxdistill.train.loop import Job, fit
from jaxdistill.train.step import make_step


def prepare(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Stage]:
    """Builds every stage and checks that each finds the weights that it starts from.

    Raises:
        UserError: for anything that would stop the run later.
    """
    stages = {name: build.stage(name, settings) for name, settings in configs.stages(config).items()}
    for stage in stages.values():
        if stage.settings["kind"] not in KINDS:
            raise unknown(f"kind of stage {stage.name!r}", stage.settings["kind"], KINDS)
        for name, spec in stage.settings["networks"].items():
            if spec.get("weights"):
                _check_start(stages, stage, name, spec, workdir)
    _check_sharding(stages)
    evaluating = [name for name, stage in stages.items() if stage.settings["kind"] == "evaluate"]
    if len(evaluating) > 1:
        raise UserError(f"stages {evaluating} all write the results of the run; keep one of kind='evaluate'")
    return stages


def _check_sharding(stages: Mapping[str, Stage]) -> None:
    """A rule may match in one stage and not in another, but must somewhere."""
    unmatched: dict[Any, tuple[Stage, Any]] = {}
    matched = set()
    for stage in stages.values():
        shapes = jax.eval_shape(stage.initial)
        found = sharding.matching(stage.settings["sharding"], shapes)
        sharding.shardings(stage.mesh, shapes, found)
        matched |= {rule[0] for rule in found}
        unmatched |= {rule[0]: (stage, rule) for rule in stage.settings["sharding"] if rule not in found}
    for name, (stage, rule) in unmatched.items():
        if name not in matched:
            sharding.shardings(stage.mesh, jax.eval_shape(stage.initial), [rule])


def _check_start(stages, stage, name, spec, workdir):
    shapes = stage.fresh.get(name)
    if shapes is None:
        raise UserError(f"stage {stage.name!r}: network {name!r} has no variables of its own; leave out its weights")
    if not spec["weights"].startswith("stage:"):
        weights.read(weights.locate(spec["weights"], name, workdir), _placed(stage, {name: shapes})[name])
        return
    source, _, wanted = spec["weights"].removeprefix("stage:").partition("#")
    made = stages[source].fresh
    saved = [n for n, kind in stages[source].networks.items() if n in made and not isinstance(kind, networks.Frozen)]
    wanted = wanted or (name if name in saved or len(saved) != 1 else saved[0])
    if wanted not in saved:
        raise unknown(f"trained network in stage {source!r}", wanted, saved)
    weights.check_same(f"stage {stage.name!r}: {spec['weights']} for network {name!r}", made[wanted], shapes)


def run(config: Mapping[str, Any], workdir: pathlib.Path, say: Callable[[str], None] = print) -> None:
    """Runs a pipeline to its end.

    Args:
        config: plain nested dicts, with overrides applied.
        workdir: where everything goes; a run that was cut off there goes on.
        say: what prints.

    Raises:
        UserError, TrainingFailed, Interrupted: see `errors`.
    """
    stages = prepare(config, workdir)
    environment.claim(workdir, config)
    for name, stage in stages.items():
        if (workdir / name / weights.DONE).exists():
            say(f"stage {name}: done before")
            continue
        began = time.perf_counter()
        done = KINDS[stage.settings["kind"]](stage, workdir, say)
        if jax.process_index() == 0:
            done |= {"seconds": round(time.perf_counter() - began, 2)}
            environment.write_json(workdir / name / weights.DONE, done)
        if jax.process_count() > 1:
            # What one process wrote is what the others read next.
            multihost_utils.sync_global_devices(f"stage {name}")


def _placed(stage: Stage, tree: Any) -> Any:
    """Gives a tree of shapes the shardings of the stage's rules."""
    rules = sharding.matching(stage.settings["sharding"], tree)
    placed = sharding.shardings(stage.mesh, tree, rules)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, placed)


def starts(stage: Stage, workdir: pathlib.Path) -> dict[str, Any]:
    """Reads the variables of the networks that do not start at random."""
    named = {name: spec["weights"] for name, spec in stage.settings["networks"].items() if spec.get("weights")}
    shapes = _placed(stage, {name: shape for name, shape in stage.fresh.items() if name in named})
    return {name: weights.read(weights.locate(named[name], name, workdir), shapes[name]) for name in named}


def train(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains, evaluates and saves one stage; resumes where its folder has a checkpoint."""
    settings, folder = stage.settings, workdir / stage.name
    shapes = jax.eval_shape(stage.initial)
    rules = sharding.matching(settings["sharding"], shapes)
    placed = sharding.shardings(stage.mesh, shapes, rules)
    init = jax.jit(stage.initial, out_shardings=placed, compiler_options=compiler_options())
    state, frozen = init(starts(stage, workdir))
    rows, best = _measured(stage), settings["checkpoint"]["by"]
    mode = "max"
    if rows:
        best = best or f"{rows[0]}/{settings['evaluate']['metrics'][0]}"
        mode = stage.metrics()[best.rpartition("/")[2]].better
    job = Job(
        stage=stage.name,
        step=make_step(stage.networks, stage.terms, stage.tx, stage.augment, settings["accumulate"]),
        loader=stage.loader(),
        mesh=stage.mesh,
        placed=placed[0],
        steps=settings["steps"],
        batch=settings["batch"],
        examples=len(stage.train),
        rate=stage.rate,
        evaluate=_evaluation(stage, rows, frozen) if rows else None,
        evaluate_every=settings["evaluate"]["every"],
        log_every=settings["log_every"],
        save_every=settings["checkpoint"]["every"],
        dispatch=settings["dispatch"] or _dispatch(stage),
    )
    with Checkpoints(folder, best, mode, settings["checkpoint"]["latest"]) as kept:
        if kept.steps:
            like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes[0], placed[0])
            state = kept.restore(kept.steps[-1], like)
            say(f"stage {stage.name}: resumes at step {kept.steps[-1]} of {job.steps}")
        about = {"stage": stage.name, "networks": sorted(_saved(stage))}
        fit(job, state, frozen, kept, workdir, about)
        if settings["checkpoint"]["keep"] == "last":
            return {"step": job.steps, "kept": "last"}
        if kept.best() is None:
            raise TrainingFailed(f"stage {stage.name!r} is to keep what is best by {best}, which was never finite")
        return {"step": kept.best(), "kept": "best", "by": best}


def _saved(stage: Stage) -> list[str]:
    return [n for n, kind in stage.networks.items() if not isinstance(kind, networks.Frozen) and n in stage.fresh]


def _measured(stage: Stage) -> list[str]:
    """The networks that are evaluated while the stage trains."""
    named = stage.settings["evaluate"]["networks"]
    if stage.settings["evaluate"]["split"] not in stage.dataset.splits:
        return []
    return list(named) or [
        n for n, kind in stage.networks.items() if n in _saved(stage) and not isinstance(kind, networks.Exit)
    ]


def _dispatch(stage: Stage) -> int:
    # On a CPU a scan over steps gains nothing; elsewhere small models wait for dispatch.
    resident = build.is_resident(stage.settings["data"], stage.dataset)
    return 1 if jax.default_backend() == "cpu" or not resident else 32


def _evaluation(stage: Stage, rows: list[str], frozen: Any) -> Callable:
    spec = stage.settings["evaluate"]
    reference = spec["reference"] or ("teacher" if "teacher" in stage.networks else "")
    evaluator = Evaluator(stage.networks, rows, stage.metrics(), reference, stage.prepare, stage.mesh)
    split, size = stage.dataset.split(spec["split"]), spec["batch"] or stage.settings["batch"]

    def evaluate(state) -> dict[str, Any]:
        batches = loader.once(split, size, stage.dataset.classes, stage.part)
        found = evaluator(state.params, state.variables, frozen, batches)
        numbers = {
            f"{name}/{metric}": value
            for name, values in found.values.items()
            for metric, value in values.items()
            if isinstance(value, float)
        }
        return {"split": spec["split"]} | numbers

    return evaluate


def evaluate(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures finished networks on a split and writes the results of the run."""
    spec = stage.settings["evaluate"]
    rows = list(spec["networks"]) or list(stage.networks)
    reference = spec["reference"] or ("teacher" if "teacher" in stage.networks else "")
    known = starts(stage, workdir)
    evaluator = Evaluator(stage.networks, rows, stage.metrics(), reference, stage.prepare, stage.mesh)
    split = stage.dataset.split(spec["split"])
    batches = loader.once(split, spec["batch"] or stage.settings["batch"], stage.dataset.classes, stage.part)
    found = evaluator({}, {}, known, batches)
    if jax.process_index() == 0:
        write_results(workdir, stage, rows, reference, found, known)
    return {"examples": len(np.asarray(found.label)), "split": spec["split"]}


KINDS = {"train": train, "evaluate": evaluate}
"""kind of stage -> what runs it: `(stage, workdir, say) -> facts for done.json`."""
