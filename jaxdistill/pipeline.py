"""Stages in order, each in its own folder, each skipped when it is done.

Everything that can be wrong with any stage is looked for before the first one starts.
"""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxdistill import build, components, environment, metrics, weights
from jaxdistill import config as configs
from jaxdistill.data import loader
from jaxdistill.errors import TrainingFailed, UserError, unknown
from jaxdistill.results import write_results
from jaxdistill.stage import Stage, is_resident
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
            if name in _strangers(stage) and not spec.get("weights"):
                raise UserError(f"stage {stage.name!r} does not train network {name!r}; set its weights, 'stage:NAME'")
            if spec.get("weights"):
                _check_start(stages, stage, name, spec, workdir)
    _check_sharding(stages)
    evaluating = [name for name, stage in stages.items() if stage.settings["kind"] == "evaluate"]
    if len(evaluating) > 1:
        raise UserError(f"stages {evaluating} all write the results of the run; keep one of kind='evaluate'")
    return stages


def _strangers(stage: Stage) -> list[str]:
    """The networks whose variables must come from elsewhere."""
    kind = stage.settings["kind"]
    return [n for n in stage.fresh if n not in stage.fitted and (kind != "train" or stage.networks[n].frozen)] + [
        n for n in stage.fitted if kind != "components"
    ]


def _check_sharding(stages: Mapping[str, Stage]) -> None:
    """A rule may match in one stage and not in another, but must somewhere."""
    unmatched: dict[Any, tuple[Stage, Any]] = {}
    matched = set()
    for stage in stages.values():
        shapes = stage.shapes
        found = sharding.matching(stage.settings["sharding"], shapes)
        sharding.shardings(stage.mesh, shapes, found)
        matched |= {rule[0] for rule in found}
        unmatched |= {rule[0]: (stage, rule) for rule in stage.settings["sharding"] if rule not in found}
    for name, (stage, rule) in unmatched.items():
        if name not in matched:
            sharding.shardings(stage.mesh, stage.shapes, [rule])


def _check_start(stages, stage, name, spec, workdir):
    shapes = stage.fresh.get(name)
    if shapes is None:
        raise UserError(f"stage {stage.name!r}: network {name!r} has no variables of its own; leave out its weights")
    if not spec["weights"].startswith("stage:"):
        weights.read(weights.locate(spec["weights"], name, workdir), _placed(stage, {name: shapes})[name])
        return
    source, _, wanted = spec["weights"].removeprefix("stage:").partition("#")
    made = stages[source].fresh
    saved = stages[source].saved
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
        if _is_done(stage, workdir):
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


def _is_done(stage: Stage, workdir: pathlib.Path) -> bool:
    done = (workdir / stage.name / weights.DONE).exists()
    return done and (stage.settings["kind"] != "evaluate" or (workdir / "results.json").exists())


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
    shapes = stage.shapes
    rules = sharding.matching(settings["sharding"], shapes)
    placed = sharding.shardings(stage.mesh, shapes, rules)
    init = jax.jit(stage.initial, out_shardings=placed, compiler_options=compiler_options())
    state, frozen = init(starts(stage, workdir))
    best = settings["checkpoint"]["by"] or next(iter(stage.numbers), "")
    mode = metrics.find(best.rpartition("/")[2]).better if best else "max"
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
        evaluate=_evaluation(stage, frozen) if stage.measured else None,
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
        about = {"stage": stage.name, "networks": sorted(stage.saved)}
        fit(job, state, frozen, kept, workdir, about)
        if settings["checkpoint"]["keep"] == "last":
            return {"step": job.steps, "kept": "last"}
        if kept.best() is None:
            raise TrainingFailed(f"stage {stage.name!r} is to keep what is best by {best}, which was never finite")
        return {"step": kept.best(), "kept": "best", "by": best}


def _dispatch(stage: Stage) -> int:
    # On a CPU a scan over steps gains nothing; elsewhere small models wait for dispatch.
    resident = is_resident(stage.settings["data"], stage.dataset)
    return 1 if jax.default_backend() == "cpu" or not resident else 32


def _evaluator(stage: Stage) -> tuple[Evaluator, Callable]:
    """What measures a stage's networks, and what makes the batches of its split."""
    measure = Evaluator(stage.networks, stage.measured, stage.metrics(), stage.reference, stage.prepare, stage.mesh)
    split = stage.dataset.split(stage.settings["evaluate"]["split"])
    return measure, lambda: loader.once(split, stage.evaluation_batch, stage.dataset.classes, stage.part)


def _evaluation(stage: Stage, frozen: Any) -> Callable:
    measure, batches = _evaluator(stage)

    def evaluate(state) -> dict[str, Any]:
        found = measure(state.params, state.variables, frozen, batches())
        numbers = {
            f"{name}/{metric}": value
            for name, values in found.values.items()
            for metric, value in values.items()
            if isinstance(value, float)
        }
        return {"split": stage.settings["evaluate"]["split"]} | numbers

    return evaluate


def evaluate(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures finished networks on a split and writes the results of the run."""
    measure, batches = _evaluator(stage)
    known = starts(stage, workdir)
    found = measure({}, {}, known, batches())
    if jax.process_index() == 0:
        write_results(workdir, stage, found)
    return {"examples": len(found.label), "split": stage.settings["evaluate"]["split"]}


def fit_components(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Fits principal components of finished networks' taps on the training split."""
    done = components.fit(stage, starts(stage, workdir), workdir / stage.name)
    kept = ", ".join(f"{name} {share:.1%}" for name, share in done["variance_kept"].items())
    say(f"stage {stage.name}: of the variance are kept: {kept}")
    return done


KINDS = {"train": train, "evaluate": evaluate, "components": fit_components}
"""kind of stage -> what runs it: `(stage, workdir, say) -> facts for done.json`."""
