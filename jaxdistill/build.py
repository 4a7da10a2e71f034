"""From a stage of a config to what it names: data, networks, terms, optimizer. Nothing is computed here but shapes
and the statistics of the training split, and whatever can be wrong with a config is found here."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxdistill import config as configs
from jaxdistill import core, metrics, networks, registry
from jaxdistill.core import Schedule, Term
from jaxdistill.data import augment, loader, sources
from jaxdistill.errors import UserError, check_names, unknown
from jaxdistill.train import optim, sharding
from jaxdistill.train.init import initial
from jaxdistill.train.log import RESERVED

RESIDENT_LIMIT = 2 << 30
"""Bytes up to which `data.resident="auto"` holds the training split on the device."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage, built. `settings` are its config with durations in steps."""

    name: str
    settings: Mapping[str, Any]
    dataset: sources.Dataset
    networks: Mapping[str, networks.Source]
    terms: Mapping[str, Term]
    tx: optax.GradientTransformation
    rate: Schedule
    augment: Callable
    prepare: Callable
    mesh: Mesh
    part: loader.Part

    @functools.cached_property
    def train(self) -> sources.Split:
        split, labels = self.dataset.split("train"), self.settings["data"]["labels"]
        return sources.FewLabels.of(split, labels) if labels else split

    @functools.cached_property
    def raw(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a raw batch."""
        batch = self.settings["batch"]
        dtype = self.dataset.split("train").take(np.arange(1))["image"].dtype
        rows = {"label": jnp.int32, "index": jnp.int32, "view": jnp.int32, "mask": jnp.float32}
        image = jax.ShapeDtypeStruct((batch, *self.dataset.shape), dtype)
        return {"image": image} | {name: jax.ShapeDtypeStruct((batch,), kind) for name, kind in rows.items()}

    @functools.cached_property
    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of an augmented batch."""
        return jax.eval_shape(self.augment, self.raw)

    def initial(self, starts=None):
        """The first state and frozen variables, from the networks' starts (`train.init`)."""
        key = jax.random.key(self.settings["seed"])
        return initial(self.networks, self.terms, self.tx, self.batch, key, starts or {})

    @functools.cached_property
    def fresh(self) -> dict[str, Any]:
        """Shapes of each network's own variables, by name."""
        state, frozen = jax.eval_shape(self.initial)
        known = core.merge(state.params, state.variables, frozen)
        return {name: known[name] for name in self.networks if name in known}

    @functools.cached_property
    def outputs(self) -> dict[str, Any]:
        """Shapes of what each network says about a batch."""

        def say(batch):
            key = jax.random.key(self.settings["seed"])
            state, frozen = initial(self.networks, {}, self.tx, self.batch, key, {})
            return networks.run(self.networks, core.merge(state.params, state.variables, frozen), batch, None)[0]

        said = jax.eval_shape(say, self.batch)
        return {name: said[name] for name in self.networks}

    def loader(self):
        """The loader of the training split: resident where asked or where it fits, else streamed."""
        data, batch, seed = self.settings["data"], self.settings["batch"], self.settings["seed"]
        if is_resident(data, self.dataset):
            return loader.Resident.of(self.train, seed=seed, batch=batch, classes=self.dataset.classes, part=self.part)
        return loader.Streamed(self.train, seed, batch, self.dataset.classes, self.part)

    def metrics(self) -> dict[str, Any]:
        return {name: metrics.find(name) for name in self.settings["evaluate"]["metrics"]}


def complete(config) -> None:
    """Adds to a locked ConfigDict the fields of the methods and models it names, so that flags can set them."""
    for section in [config, *config.stages.values()]:
        for key, kind in (("networks", "model"), ("terms", "method")):
            for entry in section.get(key, {}).values():
                if not hasattr(entry, "items"):
                    raise UserError(f"{key} are named sections like {key}.student=dict({kind}=...); got {entry!r}")
                if kind in entry:
                    extra = {"dtype": "float32"} if kind == "model" else {}
                    with entry.unlocked():
                        for name, value in (registry.fields(registry.find(kind, entry[kind])) | extra).items():
                            if name not in entry and value is not None:
                                entry[name] = value


def stage(name: str, settings: Mapping[str, Any]) -> Stage:
    """Builds one stage.

    Raises:
        UserError: for anything named that is not there and anything set that makes no sense.
    """
    settings = dict(settings)
    mesh = sharding.make_mesh(settings["mesh"])
    processes = jax.process_count()
    dataset = opened(settings["data"])
    labels = settings["data"]["labels"]
    if not isinstance(settings["batch"], int) or settings["batch"] < 1:
        raise UserError(f"batch={settings['batch']} makes no sense; it is a number of examples, 1 or more")
    settings = configs.in_steps(settings, len(dataset.split("train")) / settings["batch"], settings["batch"])
    sharding.check_batch(mesh, settings["batch"], settings["accumulate"], processes)
    mean, std = _statistics(_key(settings["data"]))
    cast = _networks(settings["networks"], dataset.classes)
    trains = settings["kind"] == "train"
    specs = settings["terms"] if trains else {}
    terms = {n: _term(n, spec, settings["steps"], cast) for n, spec in specs.items()}
    if trains:
        _check_training(name, settings, cast, terms)
    rate = optim.schedule(settings["rate"], settings["steps"])
    seed, data = settings["seed"], settings["data"]
    built = Stage(
        name=name,
        settings=settings,
        dataset=dataset,
        networks=cast,
        terms=terms,
        tx=optim.optimizer(settings["optimizer"], rate),
        rate=rate,
        augment=augment.build(
            data["augment"], seed=seed, classes=dataset.classes, mean=mean, std=std, views=data["views"]
        ),
        prepare=augment.plain(mean, std),
        mesh=mesh,
        part=loader.Part(jax.process_index(), processes),
    )
    if labels < 0:
        raise UserError(f"data.labels={labels} makes no sense; it is how many labels of each class to show, 0 for all")
    _check_classes(built)
    _check_evaluate(built)
    return built


def _check_training(name, settings, cast, terms):
    if settings["steps"] < 1:
        raise UserError(f"stage {name!r} has no length; set steps, epochs or examples")
    if not terms:
        raise UserError(
            f"stage {name!r} has no terms, so nothing to learn; add terms.task=dict(method='cross_entropy')"
        )
    if not any(
        isinstance(source, networks.Trained) and not isinstance(source, networks.Frozen) for source in cast.values()
    ):
        raise UserError(f"stage {name!r} trains no network; one of {list(cast)} needs source='trained'")
    for term, made in terms.items():
        if term in cast or term in RESERVED or "/" in term:
            raise UserError(f"a term cannot be named {term!r}; {[*cast, *RESERVED]} and names with '/' are taken")
        if made.method.needs_whole_batch and settings["accumulate"] > 1:
            raise UserError(
                f"term {term!r} compares the examples of a batch with each other, so"
                f" accumulate={settings['accumulate']} would change its loss; set accumulate=1, or use more devices for"
                " a larger batch"
            )


def _check_classes(built: Stage) -> None:
    said = {name: output.logits.shape[-1] for name, output in built.outputs.items()}
    for name, term in built.terms.items():
        if term.teacher and term.method.same_classes and said[term.student] != said[term.teacher]:
            raise UserError(
                f"term {name!r}: student {term.student!r} has {said[term.student]} classes and teacher"
                f" {term.teacher!r} {said[term.teacher]}; this method compares their logits, so they must be the same"
            )
        if not term.teacher and said[term.student] != built.dataset.classes:
            raise UserError(
                f"term {name!r}: network {term.student!r} has {said[term.student]} classes, the data"
                f" {built.dataset.classes}; leave out `classes` and it is taken from the data"
            )


def _check_evaluate(built: Stage) -> None:
    spec = built.settings["evaluate"]
    check_names("network in evaluate", spec["networks"], built.networks)
    check_names("network in evaluate.reference", [spec["reference"]] if spec["reference"] else [], built.networks)
    built.metrics()
    if built.settings["kind"] == "evaluate" or spec["every"]:
        built.dataset.split(spec["split"])
    by = built.settings["checkpoint"]["by"]
    if by:
        measured = [f"{name}/{metric}" for name in built.networks for metric in spec["metrics"]]
        check_names("evaluated number for checkpoint.by", [by], measured)
    keep = built.settings["checkpoint"]["keep"]
    if keep not in ("last", "best"):
        raise unknown("way to keep a checkpoint", keep, ("last", "best"))
    if keep == "best" and spec["split"] not in built.dataset.splits:
        raise UserError(
            f"stage {built.name!r} keeps what is best on {spec['split']!r}, a split that {built.settings['data']['name']}"
            f" does not have; there are {sorted(built.dataset.splits)}"
        )
    size = spec["batch"] or built.settings["batch"]
    sharding.check_batch(built.mesh, size, 1, built.part.of)


def is_resident(data: Mapping[str, Any], dataset: sources.Dataset) -> bool:
    """Whether the training split is held on the device."""
    if data["resident"] not in ("auto", "yes", "no"):
        raise unknown("setting of data.resident", data["resident"], ("auto", "yes", "no"))
    size = len(dataset.split("train")) * math.prod(dataset.shape)
    return data["resident"] == "yes" or (data["resident"] == "auto" and size <= RESIDENT_LIMIT)


def opened(data: Mapping[str, Any]) -> sources.Dataset:
    """Opens the dataset of a `data` section; stages of a pipeline share what is decoded."""
    if not data["name"]:
        raise UserError(f"no dataset is named; set data.name to one of {[*sources.EMBEDDED]} or a name of TFDS")
    return _opened(_key(data))


def _key(data: Mapping[str, Any]) -> str:
    shared = ("name", "data_dir", "path", "splits", "size", "resident", "statistics")
    return json.dumps({key: data[key] for key in shared}, sort_keys=True)


@functools.lru_cache(maxsize=4)
def _opened(key: str) -> sources.Dataset:
    data = json.loads(key)
    splits = data["splits"] if any(data["splits"].values()) else None
    dataset = sources.load(data["name"], data_dir=data["data_dir"], path=data["path"], splits=splits, size=data["size"])
    dataset.split("train")
    if not is_resident(data, dataset):
        return dataset
    held = {}
    for role, split in dataset.splits.items():
        held[role] = split if isinstance(split, sources.Arrays) else sources.Arrays(**split.take(np.arange(len(split))))
        loader.check_labels(held[role].label, dataset.classes, f"the {role} split of {data['name']}")
    return dataclasses.replace(dataset, splits=held)


@functools.lru_cache(maxsize=4)
def _statistics(key: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return loader.statistics(_opened(key).split("train"), json.loads(key)["statistics"])


def _networks(specs: Mapping[str, Mapping[str, Any]], classes: int) -> dict[str, networks.Source]:
    if not specs:
        raise UserError("no networks are named; add networks.student=dict(source='trained', model=...)")
    made: dict[str, networks.Source] = {}
    waiting = dict(specs)
    while waiting:
        ready = [name for name, spec in waiting.items() if not set(_leaders(name, spec, specs)) & set(waiting)]
        if not ready:
            raise UserError(f"networks need each other in a circle: {sorted(waiting)}")
        for name in ready:
            made[name] = _network(name, dict(waiting.pop(name)), made, classes)
    return networks.in_order(made)


def _leaders(name: str, spec: Mapping[str, Any], specs: Mapping[str, Any]) -> list[str]:
    of = spec.get("of", ())
    leaders = [of] if isinstance(of, str) else list(of)
    check_names(f"network for {name!r}, of", leaders, specs)
    if spec.get("source") == "ensemble" and isinstance(of, str):
        raise UserError(f"network {name!r}: an ensemble is of several networks, of=({of!r}, ...)")
    return leaders


def _network(name: str, spec: dict[str, Any], made: Mapping[str, Any], classes: int) -> networks.Source:
    kind = spec.pop("source", "trained")
    weights = spec.pop("weights", "")
    if kind not in SOURCES:
        raise unknown(f"source for network {name!r}", kind, SOURCES)
    if kind == "frozen" and not weights:
        raise UserError(
            f"network {name!r} is frozen and has no weights, so it would speak at random; set weights='stage:NAME',"
            " or the folder of a stage of another run"
        )
    make, keys = SOURCES[kind]
    if keys is not None:
        check_names(f"network {name!r}: key", spec, keys)
        missing = [key for key in keys[: KEYS_NEEDED[kind]] if key not in spec]
        if missing:
            raise UserError(f"network {name!r} with source={kind!r} needs {missing}; it takes {list(keys)}")
    return make(name, spec, made, classes)


def _module(name: str, spec: dict[str, Any], classes: int):
    if "model" not in spec:
        raise UserError(f"network {name!r} names no model; there are {registry.names('model')}")
    own = {key: value for key, value in spec.items() if key not in ("model", "dtype", "classes", "input")}
    wanted = spec.get("classes", 0) or classes
    module = registry.make(
        "model", spec["model"], own, classes=wanted, dtype=registry.dtype(spec.get("dtype", "float32"))
    )
    return module, spec.get("input", "image")


def _leader(name: str, of: str, made: Mapping[str, Any]) -> networks.Trained:
    if not isinstance(made[of], networks.Trained):
        raise UserError(f"network {name!r} follows {of!r}, which has no weights of its own")
    return made[of]


def _exit(name, spec, made, classes):
    head = spec.get("head", "linear")
    if head not in ("linear", "none"):
        raise unknown(f"head for network {name!r}", head, ("linear", "none"))
    dtype = registry.dtype(spec.get("dtype", "float32"))
    return networks.Exit(spec["of"], spec["tap"], networks.Head(classes, dtype) if head == "linear" else None)


def _ema(name, spec, made, classes):
    decay = spec.get("decay", 0.999)
    if not 0 <= decay <= 1:
        raise UserError(f"network {name!r}: decay={decay} makes no sense; it is between 0 and 1")
    return networks.Ema(_leader(name, spec["of"], made), spec["of"], decay)


def _ensemble(name, spec, made, classes):
    average = spec.get("average", "probabilities")
    if average not in ("probabilities", "logits"):
        raise unknown(f"average for network {name!r}", average, ("probabilities", "logits"))
    return networks.Ensemble(tuple(spec["of"]), average)


SOURCES: dict[str, tuple[Callable[..., networks.Source], tuple[str, ...] | None]] = {
    "trained": (lambda n, spec, made, classes: networks.Trained(*_module(n, spec, classes)), None),
    "frozen": (lambda n, spec, made, classes: networks.Frozen(*_module(n, spec, classes)), None),
    "ema": (_ema, ("of", "decay")),
    "ensemble": (_ensemble, ("of", "average")),
    "exit": (_exit, ("of", "tap", "head", "dtype")),
    "again": (
        lambda n, spec, made, _: networks.Again(_leader(n, spec["of"], made), spec["of"], spec.get("input", "image2")),
        ("of", "input"),
    ),
}
"""source -> how to make it, and its keys; `None` for those whose keys are their model's."""

KEYS_NEEDED = {"ema": 1, "ensemble": 1, "exit": 2, "again": 1}


def _term(name: str, spec: Mapping[str, Any], steps: int, cast: Mapping[str, networks.Source]) -> Term:
    spec = dict(spec)
    if "method" not in spec:
        raise UserError(f"term {name!r} names no method; there are {registry.names('method')}")
    method = registry.find("method", spec.pop("method"))
    student, weight = spec.pop("student", "student"), spec.pop("weight", 1.0)
    teacher = spec.pop("teacher", "teacher" if method.needs_teacher else "") or None
    check_names(f"network for term {name!r}, student", [student], cast)
    if method.needs_teacher and teacher is None:
        raise UserError(f"term {name!r} needs a teacher; there are {list(cast)}")
    check_names(f"network for term {name!r}, teacher", [teacher] if teacher else [], cast)
    kind = method.__module__.rpartition(".")[2]
    made = registry.make("method", kind, spec)
    try:
        made.check()
    except UserError as error:
        raise UserError(f"term {name!r}: {error}") from error
    values = (
        [weight] if isinstance(weight, (int, float)) else [v for v in weight.values() if isinstance(v, (int, float))]
    )
    if any(not math.isfinite(value) or value < 0 for value in values):
        raise UserError(f"term {name!r}: weight={weight} makes no sense; it is 0 or more")
    return Term(made, student, teacher, optim.schedule(weight, steps))
