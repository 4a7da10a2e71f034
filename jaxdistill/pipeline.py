"""Stages in order, each in its own folder, each skipped when it is done.

Everything that can be wrong with any stage is looked for before the first one starts.
"""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxdistill import (
    build,
    caching,
    classifier,
    components,
    environment,
    merging,
    reduction,
    saliency,
    training,
    weights,
)
from jaxdistill import config as configs
from jaxdistill.data.cache import Cache
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks import Look
from jaxdistill.results import disagreements, write_results
from jaxdistill.stage import Stage
from jaxdistill.train import sharding


def prepare(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Stage]:
    """Builds every stage and checks that each finds the weights that it starts from.

    Raises:
        UserError: for anything that would stop the run later.
    """
    stages: dict[str, Stage] = {}
    for name, settings in configs.stages(config).items():
        caches = caching.named(name, settings, stages, workdir)
        stages[name] = build.stage(name, settings, _made_for(stages, settings, workdir), caches)
    for stage in stages.values():
        if stage.settings["kind"] not in KINDS:
            raise unknown(f"kind of stage {stage.name!r}", stage.settings["kind"], KINDS)
        if stage.settings["kind"] in caching.KINDS:
            caching.header(stage, {})
        if stage.settings["kind"] == "classifier":
            classifier.make(stage)
        for name, spec in stage.settings["networks"].items():
            if name in _strangers(stage) and not spec.get("weights"):
                raise UserError(f"stage {stage.name!r} does not train network {name!r}; set its weights, 'stage:NAME'")
            if spec.get("weights"):
                _check_start(stages, stage, name, spec, workdir)
            if name in stage.caches and spec.get("teacher") and not spec["teacher"].startswith("stage:"):
                weights.locate(spec["teacher"], name, workdir)
    _check_sharding(stages)
    evaluating = [name for name, stage in stages.items() if stage.settings["kind"] == "evaluate"]
    if len(evaluating) > 1:
        raise UserError(f"stages {evaluating} all write the results of the run; keep one of kind='evaluate'")
    return stages


def _made_for(stages: Mapping[str, Stage], settings: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Look]:
    """The images that the networks of a stage were trained on, of those that start from weights."""
    found = {}
    for name, spec in settings["networks"].items():
        start = spec.get("weights") or ""
        if not isinstance(start, str) or not start:
            continue
        if start.startswith("stage:"):
            source, wanted = _wanted(stages, start, name)
            look = stages[source].looks.get(wanted)
        else:
            look = weights.look(weights.locate(start, name, workdir))
        found |= {name: look} if look else {}
    return found


def _wanted(stages: Mapping[str, Stage], start: str, name: str) -> tuple[str, str]:
    """The stage and the network in it that `stage:NAME#NETWORK` means for the network `name`."""
    place, wanted, _ = weights.parse(start)
    source = place.removeprefix("stage:")
    saved = stages[source].saved
    return source, wanted or (name if name in saved or len(saved) != 1 else saved[0])


def _strangers(stage: Stage) -> list[str]:
    """The networks whose variables must come from elsewhere."""
    kind = stage.settings["kind"]
    others = [n for n in stage.fresh if n not in stage.fitted and not stage.networks[n].given]
    return [n for n in others if kind != "train" or stage.networks[n].frozen] + [
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
    source, wanted = _wanted(stages, spec["weights"], name)
    made = stages[source].made
    if wanted not in stages[source].saved:
        raise unknown(f"trained network in stage {source!r}", wanted, stages[source].saved)
    lane, lanes = weights.parse(spec["weights"])[2], len(stages[source].lanes)
    weights.check_lane(f"stage {stage.name!r}: {spec['weights']} for network {name!r}", lane, lanes)
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
        caching.verify(stage, workdir)
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
    if done and stage.settings["kind"] in caching.KINDS:
        return caching.is_whole(_cache(stage, workdir))
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
    read = {name: weights.read(weights.locate(named[name], name, workdir), shapes[name]) for name in named}
    brought = {name: source.given for name, source in stage.networks.items() if source.given}
    return read | sharding.everywhere(stage.mesh, brought)


def _speaking(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables that networks are called with where nothing learns, and what they lost by being reduced."""
    known = starts(stage, workdir)
    return stage.reduced(known), reduction.report(stage, known, say)


def train(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains networks."""
    return training.run(stage, starts(stage, workdir), workdir, say)


def evaluate(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures finished networks on a split and writes the results of the run."""
    measure, batches = training.evaluator(stage)
    known, reduced = _speaking(stage, workdir, say)
    found = measure({}, {}, known, batches())
    looked = None
    if stage.settings["evaluate"]["saliency"]:
        looked = saliency.find(stage, known, found.index[disagreements(stage, found)])
    if jax.process_index() == 0:
        write_results(workdir, stage, found, looked)
    return {"examples": len(found.label), "split": stage.settings["evaluate"]["split"]} | reduced


def fit_components(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Fits principal components of finished networks' taps on the training split."""
    known, reduced = _speaking(stage, workdir, say)
    done = components.fit(stage, known, workdir / stage.name) | reduced
    kept = ", ".join(f"{name} {share:.1%}" for name, share in done["variance_kept"].items())
    say(f"stage {stage.name}: of the variance are kept: {kept}")
    return done


def merge(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Merges finished networks into one."""
    done = merging.run(stage, starts(stage, workdir), workdir / stage.name)
    of = ", ".join(done.get("kept_by_soup", done["networks"]))
    say(f"stage {stage.name}: {done['into']!r} is made of {of} by {done['rule']}")
    return done


def cache(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Writes what a finished network says about every example."""
    reduced = {}

    def ask():
        known, found = _speaking(stage, workdir, say)
        reduced.update(found)
        return caching.network(stage, known)

    return caching.fill(_cache(stage, workdir), ask, say) | reduced


def _cache(stage: Stage, workdir: pathlib.Path) -> Cache:
    """The cache that a stage makes, by those that answer now."""
    by = classifier.told(stage) if stage.settings["kind"] == "classifier" else caching.answers_by(stage, workdir)
    return caching.of_stage(stage, by, workdir)


def fit_classifier(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Fits a classifier, and writes what it says about every example."""
    done = classifier.run(stage, _cache(stage, workdir), say)
    if "accuracy" in done:
        say(f"stage {stage.name}: accuracy {done['accuracy']:.4f} on the {done['split']} split")
    return done


KINDS = {
    "train": train,
    "evaluate": evaluate,
    "components": fit_components,
    "merge": merge,
    "cache": cache,
    "classifier": fit_classifier,
}
"""kind of stage -> what runs it: `(stage, workdir, say) -> facts for done.json`."""
