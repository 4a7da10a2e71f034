"""Stages in order, each in its own folder, each skipped when it is done.

Everything that can be wrong with any stage is looked for before the first one starts.
"""

import functools
import pathlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxdistill import core
from jaxdistill.build import resolve, weights
from jaxdistill.build.stage import Stage
from jaxdistill.config import load as configs
from jaxdistill.data.output_cache import Cache
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks import ImageSpec
from jaxdistill.runtime import files
from jaxdistill.runtime.compilation_cache import compilation_log
from jaxdistill.runtime.workdir import claim_workdir
from jaxdistill.stages import cache as caching
from jaxdistill.stages import merge as merging
from jaxdistill.stages import pca, precision_report, saliency
from jaxdistill.stages import sklearn as classifier
from jaxdistill.stages import train as training
from jaxdistill.stages.lanes import runs_of
from jaxdistill.stages.results import disagreements, write_results
from jaxdistill.train import mesh, partitioning


def prepare(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Stage]:
    """Builds every stage and checks that each finds the weights that it starts from.

    Raises:
        UserError: for anything that would stop the run later.
    """
    stages: dict[str, Stage] = {}
    for name, settings in configs.stages(config).items():
        caches = caching.named(name, settings, stages, workdir)
        started = _started(stages, settings, workdir)
        stages[name] = resolve.stage(name, settings, _made_for(stages, settings, workdir), caches, started=started)
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


def _made_for(stages: Mapping[str, Stage], settings: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, ImageSpec]:
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
            look = weights.look(weights.locate(start, name, workdir, lane=0))
        found |= {name: look} if look else {}
    return found


def _started(stages: Mapping[str, Stage], settings: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, int]:
    """In how many lanes the weights come that networks of a stage start from, of those that name no lane."""
    found = {}
    for name, spec in settings["networks"].items():
        start = spec.get("weights") or ""
        if not isinstance(start, str) or not start or weights.parse(start)[2] is not None:
            continue
        if start.startswith("stage:"):
            found[name] = len(stages[_wanted(stages, start, name)[0]].lanes)
        else:
            found[name] = weights.lanes_in(weights.locate(start, name, workdir, lane=0))
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
    """A rule may place nothing in one stage, but must in another."""
    used, unused = set(), {}
    for stage in stages.values():
        _ = stage.placed  # raises for a dimension that does not divide
        used |= stage.placement.used
        unused |= {(who, what): (stage, spec) for who, what, spec in stage.placement.unused()}
    for (who, what), (stage, spec) in unused.items():
        if (who, what) not in used:
            own = stage.placement.cast[who].rules if who else stage.placement.rules
            raise partitioning.nowhere(who, what, spec, own, {"frozen": stage.shapes[1], **vars(stage.shapes[0])})


def _check_start(stages, stage, name, spec, workdir):
    shapes = stage.fresh.get(name)
    if shapes is None:
        raise UserError(f"stage {stage.name!r}: network {name!r} has no variables of its own; leave out its weights")
    if not spec["weights"].startswith("stage:"):
        lane = 0 if name in stage.paired else None
        weights.check(weights.locate(spec["weights"], name, workdir, lane), shapes)
        return
    source, wanted = _wanted(stages, spec["weights"], name)
    made = stages[source].made
    if wanted not in stages[source].saved:
        raise unknown(f"trained network in stage {source!r}", wanted, stages[source].saved)
    lane = 0 if name in stage.paired else weights.parse(spec["weights"])[2]
    there = len(stages[source].lanes)
    weights.check_lane(f"stage {stage.name!r}: {spec['weights']} for network {name!r}", lane, there)
    weights.check_same(f"stage {stage.name!r}: {spec['weights']} for network {name!r}", made[wanted], shapes)


def run(config: Mapping[str, Any], workdir: pathlib.Path, say: Callable[[str], None] = print, profile: int = 0) -> None:
    """Runs a pipeline to its end.

    Args:
        config: plain nested dicts, with overrides applied.
        workdir: where everything goes; a run that was cut off there goes on.
        say: what prints.
        profile: how many early steps of every stage that trains are recorded (`train.profile`).

    Raises:
        UserError, TrainingFailed, Interrupted: see `errors`.
    """
    stages = prepare(config, workdir)
    claim_workdir(workdir, config, configs.differences)
    log = compilation_log()
    for name, stage in stages.items():
        if _is_done(stage, workdir):
            say(f"stage {name}: done before")
            continue
        caching.verify(stage, workdir)
        log.use(stage.settings["compilation_cache"], workdir)
        began, before = time.perf_counter(), log.total
        more = {"profile": profile} if stage.settings["kind"] == "train" else {}
        done = KINDS[stage.settings["kind"]](stage, workdir, say, **more)
        compiled = log.total - before
        if compiled.programs:
            say(f"stage {name}: {compiled.describe()}")
        if jax.process_index() == 0:
            done |= {"seconds": round(time.perf_counter() - began, 2)}
            files.write_json(workdir / name / weights.DONE, done)
        if jax.process_count() > 1:
            # What one process wrote is what the others read next.
            multihost_utils.sync_global_devices(f"stage {name}")


def _is_done(stage: Stage, workdir: pathlib.Path) -> bool:
    done = (workdir / stage.name / weights.DONE).exists()
    if done and stage.settings["kind"] in caching.KINDS:
        return caching.is_whole(_cache(stage, workdir))
    return done and (stage.settings["kind"] != "evaluate" or (workdir / "results.json").exists())


def _placed(stage: Stage) -> dict[str, Any]:
    """The shardings of each network's own variables, by name."""
    state, frozen = stage.placed
    return core.merge_variables(state.params, state.variables, frozen)


def starts(stage: Stage, workdir: pathlib.Path, names: Collection[str] | None = None) -> dict[str, Any]:
    """Reads the variables of the networks that do not start at random, each where it will live.

    They are `[lanes, ...]` of those that come in lanes. `names` are those that are wanted, all where it is `None`.
    """
    placed, wanted, runs = _placed(stage), stage.networks if names is None else names, runs_of(stage)
    specs = {n: spec["weights"] for n, spec in stage.settings["networks"].items() if spec.get("weights")}

    def one(name):
        where = [weights.locate(specs[name], name, workdir, lane) for lane in runs.lanes_of(name)]
        return runs.join(name, weights.read_each(where, mesh.structs(stage.fresh[name], placed[name])))

    read = {name: one(name) for name in specs if name in wanted}
    given = {name: source.given for name, source in stage.networks.items() if source.given and name in wanted}
    return read | {name: mesh.spread(dict(tree), placed[name]) for name, tree in given.items()}


def _speaking(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables that networks are called with where nothing learns, and what they lost by being reduced."""
    known, runs = starts(stage, workdir), runs_of(stage)
    reduced = precision_report.report(runs, known, say)
    return runs.for_inference(known), reduced


def train(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None], profile: int = 0) -> dict[str, Any]:
    """Trains networks."""
    return training.run(stage, functools.partial(starts, stage, workdir), workdir, say, profile)


def evaluate(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures finished networks on a split and writes the results of the run."""
    known, lost = _speaking(stage, workdir, say)
    runs = runs_of(stage)
    each = training.evaluator(runs)({}, {}, known)
    looked = None
    if stage.saliency:
        looked = saliency.find(stage, runs.first(known), each[0].index[disagreements(stage, each[0])])
    if jax.process_index() == 0:
        write_results(workdir, runs, each, looked)
    return {"examples": len(each[0].label), "split": stage.settings["evaluate"]["split"]} | lost


def fit_components(stage: Stage, workdir: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Fits principal components of finished networks' taps on the training split."""
    known, reduced = _speaking(stage, workdir, say)
    done = pca.fit(stage, known, workdir / stage.name) | reduced
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
