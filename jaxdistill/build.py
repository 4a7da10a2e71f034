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

from jaxdistill import cast, core, metrics, networks, registry
from jaxdistill import config as configs
from jaxdistill.core import Schedule, Term
from jaxdistill.data import augment, loader, sources
from jaxdistill.errors import UserError, check_names, unknown
from jaxdistill.heads import Components
from jaxdistill.train import optim, sharding
from jaxdistill.train.evaluate import closure
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
    def shapes(self):
        """Shapes of the first state and of the frozen variables."""
        return jax.eval_shape(self.initial)

    @functools.cached_property
    def fresh(self) -> dict[str, Any]:
        """Shapes of each network's own variables, by name."""
        state, frozen = self.shapes
        known = core.merge(state.params, state.variables, frozen)
        return {name: known[name] for name in self.networks if name in known}

    @functools.cached_property
    def outputs(self) -> dict[str, Any]:
        """Shapes of what each network says about a batch."""

        def say(batch):
            key = jax.random.key(self.settings["seed"])
            state, frozen = initial(self.networks, {}, self.tx, self.batch, key, {})
            return networks.run(self.networks, core.merge(state.params, state.variables, frozen), batch, None)[0]

        try:
            said = jax.eval_shape(say, self.batch)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            what = str(error).partition("\n")[0]
            raise UserError(f"stage {self.name!r}: its networks cannot be run on its data: {what}") from error
        return {name: said[name] for name in self.networks}

    @property
    def reference(self) -> str:
        """The network that fidelity is measured against: the one named, else the teacher, else none ("")."""
        return self.settings["evaluate"]["reference"] or ("teacher" if "teacher" in self.networks else "")

    @property
    def evaluation_batch(self) -> int:
        return self.settings["evaluate"]["batch"] or self.settings["batch"]

    @property
    def fitted(self) -> list[str]:
        """The networks that a stage of kind "components" fits."""
        heads = {n: getattr(source, "head", None) for n, source in self.networks.items()}
        return [n for n, head in heads.items() if isinstance(head, Components)]

    @property
    def saved(self) -> list[str]:
        """The networks whose variables its checkpoints hold."""
        if self.settings["kind"] == "components":
            return self.fitted
        return [n for n, s in self.networks.items() if n in self.fresh and not s.frozen]

    @property
    def measured(self) -> list[str]:
        """The networks that are evaluated: those named; else all of them, and in training those that learn."""
        spec = self.settings["evaluate"]
        if spec["split"] not in self.dataset.splits:
            return []
        if spec["networks"] or self.settings["kind"] == "evaluate":
            return list(spec["networks"] or self.networks)
        return [n for n in self.saved if not isinstance(self.networks[n], networks.Exit)] if spec["metrics"] else []

    @property
    def numbers(self) -> list[str]:
        """The numbers that an evaluation finds and a checkpoint can be best by, the student's first."""
        rows = sorted(self.measured, key=lambda name: name != "student")
        able = [n for n, m in self.metrics().items() if m.better and (self.reference or not m.needs_reference)]
        return [f"{row}/{name}" for row in rows for name in able]

    def loader(self):
        """The loader of the training split: resident where asked or where it fits, else streamed."""
        data, batch, seed = self.settings["data"], self.settings["batch"], self.settings["seed"]
        if is_resident(data, self.dataset):
            return loader.Resident.of(self.train, seed=seed, batch=batch, classes=self.dataset.classes, part=self.part)
        return loader.Streamed(self.train, seed, batch, self.dataset.classes, self.part)

    def metrics(self) -> dict[str, Any]:
        return {name: metrics.find(name) for name in self.settings["evaluate"]["metrics"]}


def complete(config) -> None:
    """Adds to a locked ConfigDict the fields of the methods, models and optimizers it names, for flags to set.

    In a stage only where it names another than it inherits: what it inherits must not be overwritten by defaults.
    """
    for section in [config, *config.stages.values()]:
        for key, kind in (("networks", "model"), ("terms", "method")):
            for name, entry in section.get(key, {}).items():
                if not hasattr(entry, "items"):
                    raise UserError(f"{key} are named sections like {key}.student=dict({kind}=...); got {entry!r}")
                above = {} if section is config else config[key].get(entry.get("like", name), {})
                if kind in entry and (section is config or configs.replaces(entry, above)):
                    member = registry.find(kind, entry[kind])
                    _add(entry, registry.fields(member) | _settings(kind, member))
        if "optimizer" in section:
            if not hasattr(section.optimizer, "items"):
                raise UserError(f"optimizer={section.optimizer!r} is no section, like dict(name='sgd', momentum=0.9)")
            _add(section.optimizer, optim.fields(section.optimizer.get("name")))


def _settings(kind: str, member: type) -> dict[str, Any]:
    """What an entry says beside the fields of its model or method."""
    if kind == "model":
        return {"dtype": "float32", "weights": ""}
    return {"student": "student", "teacher": "teacher" if member.needs_teacher else "", "weight": 1.0}


def _add(entry, known: Mapping[str, Any]) -> None:
    with entry.unlocked():
        for name, value in known.items():
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
    settings = configs.in_steps(settings, len(dataset.split("train")) / settings["batch"], settings["batch"])
    sharding.check_batch(mesh, settings["batch"], settings["accumulate"], processes)
    sharding.check_rules(settings["sharding"])
    mean, std = _statistics(_key(settings["data"]))
    made = cast.networks(settings["networks"], dataset.classes)
    trains = settings["kind"] == "train"
    specs = settings["terms"] if trains else {}
    terms = {n: cast.term(n, spec, settings["steps"], made) for n, spec in specs.items()}
    if trains:
        _check_training(name, settings, made, terms)
    rate = optim.schedule(settings["rate"], settings["steps"])
    seed, data = settings["seed"], settings["data"]
    built = Stage(
        name=name,
        settings=settings,
        dataset=dataset,
        networks=made,
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
    if settings["kind"] == "components" and not built.fitted:
        raise UserError(f"stage {name!r} fits nothing; it needs a network dict(source='exit', head='components', ...)")
    _check_memories(built)
    _check_probes(built)
    _check_inputs(built)
    _check_classes(built)
    _check_evaluate(built)
    return built


def _check_training(name, settings, made, terms):
    if settings["steps"] < 1:
        raise UserError(f"stage {name!r} has no length; set steps, epochs or examples")
    if not terms:
        raise UserError(
            f"stage {name!r} has no terms, so nothing to learn; add terms.task=dict(method='cross_entropy')"
        )
    learning = [n for n, source in made.items() if source.learns]
    if not learning:
        raise UserError(f"stage {name!r} trains no network; one of {list(made)} needs source='trained'")
    for key, term in terms.items():
        if not set(closure(made, [term.student])) & set(learning):
            raise UserError(f"term {key!r} teaches {term.student!r}, which does not learn; {learning} do")
    idle = [n for n in learning if not any(n in closure(made, [term.student]) for term in terms.values())]
    if idle:
        raise UserError(f"stage {name!r} trains networks {idle}, and no term teaches them; there are {list(terms)}")
    for key, term in terms.items():
        if key in made or key in RESERVED or "/" in key:
            raise UserError(f"a term cannot be named {key!r}; {[*made, *RESERVED]} and names with '/' are taken")
        if term.method.needs_whole_batch and settings["accumulate"] > 1:
            raise UserError(
                f"term {key!r} compares the examples of a batch with each other, so"
                f" accumulate={settings['accumulate']} would change its loss; set accumulate=1, or use more devices for"
                " a larger batch"
            )


def _check_memories(built: Stage) -> None:
    """A memory with a row for each training example has that many."""
    there = len(built.dataset.split("train"))
    for name, term in built.terms.items():
        wanted = getattr(term.method, "examples", there)
        if wanted != there:
            raise UserError(
                f"term {name!r} remembers examples={wanted} by their index, and the training split has {there}; set"
                f" terms.{name}.examples={there}"
            )


def _check_probes(built: Stage) -> None:
    """Derivatives are compared along the same directions, taken in the same way."""
    for name, term in built.terms.items():
        pair = [built.networks[network] for network in (term.student, term.teacher) if network]
        ways = [(p.how, p.directions, p.step, p.seed) if isinstance(p, networks.Probe) else None for p in pair]
        if len(set(ways)) > 1:
            raise UserError(
                f"term {name!r}: {term.student!r} and {term.teacher!r} must be two probes that agree in how,"
                f" directions, step and seed; they have {ways}"
            )


def _check_inputs(built: Stage) -> None:
    images = [name for name in built.batch if name.startswith("image")]
    for name, source in built.networks.items():
        wanted = getattr(source, "input", "image")
        if wanted not in images and built.settings["kind"] == "train":
            raise UserError(
                f"network {name!r} looks at {wanted!r}, and a batch has {images}; data.views=2 makes image2, 3 image3"
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
    spec, keep = built.settings["evaluate"], built.settings["checkpoint"]
    final = built.settings["kind"] == "evaluate"
    check_names("network in evaluate", spec["networks"], built.networks)
    check_names("network in evaluate.reference", [spec["reference"]] if spec["reference"] else [], built.networks)
    if final or spec["every"]:
        built.dataset.split(spec["split"])
    again = [name for name in built.measured if isinstance(built.networks[name], networks.Again | networks.Probe)]
    if again:
        raise UserError(f"networks {again} are second looks at a training batch; evaluate what they look again with")
    blind = [name for name, metric in built.metrics().items() if metric.needs_reference and not built.reference]
    if final and blind:
        options = [*built.networks]
        raise UserError(f"metrics {blind} compare with a reference; set evaluate.reference to one of {options}")
    if keep["keep"] not in ("last", "best"):
        raise unknown("way to keep a checkpoint", keep["keep"], ("last", "best"))
    check_names("evaluated number for checkpoint.by", [keep["by"]] if keep["by"] else [], built.numbers)
    if keep["keep"] == "best" and not final and not built.numbers:
        raise UserError(
            f"stage {built.name!r} is to keep what is best, and evaluates nothing; it needs evaluate.metrics, and a"
            f" split of {sorted(built.dataset.splits)} as evaluate.split, which is {spec['split']!r}"
        )
    sharding.check_batch(built.mesh, built.evaluation_batch, 1, built.part.of)


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
