"""A stage of a run, built: what it trains or measures, on what, and how; shapes of all of it without computing any."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxdistill import core, metrics, networks
from jaxdistill.core import Schedule, Term
from jaxdistill.data import loader, section
from jaxdistill.data.cache import Answers, Cache, content
from jaxdistill.data.dataset import Dataset, Split
from jaxdistill.errors import UserError
from jaxdistill.heads import Components
from jaxdistill.train import sharding
from jaxdistill.train.init import born, initial


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage, built.

    Attributes:
        settings: its config with durations in steps.
        train: what it trains on, of its main dataset and of those mixed in.
        look: what the images of its data are.
        augmented: `augmented(seed=...)` is the augmentation of a batch.
        caches: what its cached networks read, by name.
        lanes: the single runs that it trains side by side, this one the first of them; none where it has no sweep.
    """

    name: str
    settings: Mapping[str, Any]
    dataset: Dataset
    train: Split
    look: networks.Look
    networks: Mapping[str, networks.Source]
    terms: Mapping[str, Term]
    tx: optax.GradientTransformation
    rate: Schedule
    augmented: Callable[..., Callable]
    prepare: Callable
    mesh: Mesh
    part: loader.Part
    caches: Mapping[str, Cache] = dataclasses.field(default_factory=dict)
    lanes: tuple["Stage", ...] = ()

    @functools.cached_property
    def augment(self) -> Callable:
        return self.augmented(seed=self.data_seed)

    @property
    def data_seed(self) -> int:
        """The seed of order and augmentation: the data's own, else the run's."""
        own = self.settings["data"]["seed"]
        return own if own >= 0 else self.settings["seed"]

    @functools.cached_property
    def raw(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a raw batch."""
        batch = self.settings["batch"]
        dtype = self.dataset.split("train").take(np.arange(1))["image"].dtype
        rows = {"label": jnp.int32, "index": jnp.int32, "view": jnp.int32, "mask": jnp.float32}
        image = jax.ShapeDtypeStruct((batch, *self.dataset.shape), dtype)
        said = {
            f"{core.CACHED}{name}/{array}": jax.ShapeDtypeStruct((batch, *shape), kind)
            for name, cache in self.caches.items()
            for array, (shape, kind) in cache.header.arrays.items()
        }
        return {"image": image} | {name: jax.ShapeDtypeStruct((batch,), kind) for name, kind in rows.items()} | said

    @functools.cached_property
    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of an augmented batch."""
        return jax.eval_shape(self.augment, self.raw)

    def initial(self, starts=None, seed=None):
        """The first state and frozen variables, from the networks' starts (`train.init`)."""
        key = jax.random.key(self.settings["seed"] if seed is None else seed)
        return initial(self.networks, self.terms, self.tx, self.batch, key, starts or {})

    @functools.cached_property
    def shapes(self):
        """Shapes of the first state and of the frozen variables."""
        return jax.eval_shape(self.initial)

    def reduced(self, known):
        """What networks with these variables are called with (`Source.reduce`), placed by the stage's rules."""

        def make(known):
            return {name: self.networks[name].reduce(own, self.batch) for name, own in known.items()}

        shapes = jax.eval_shape(make, known)
        rules = sharding.matching(self.settings["sharding"], shapes)
        return jax.jit(make, out_shardings=sharding.shardings(self.mesh, shapes, rules))(known)

    @functools.cached_property
    def fresh(self) -> dict[str, Any]:
        """Shapes of each network's own variables, by name, as they were trained: not reduced."""

        def make(batch):
            zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in batch.items()}
            return born(self.networks, zeros, core.fold_in(jax.random.key(0), self.networks), {})[0]

        return {name: shapes for name, shapes in jax.eval_shape(make, self.batch).items() if shapes}

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
    def looks(self) -> dict[str, networks.Look]:
        """The images as each network that has a module sees them."""
        modules = {n: getattr(source, "leader", source) for n, source in self.networks.items()}
        own = {n: source.preprocess for n, source in modules.items() if hasattr(source, "preprocess")}
        if self.settings["kind"] == "merge":
            own |= {name: own.get(self._like(name)) for name in self.saved}
        return {n: preprocess.wanted if preprocess else self.look for n, preprocess in own.items()}

    @property
    def reference(self) -> str:
        """The network that fidelity is measured against: the one named, else the teacher, else none ("")."""
        return self.settings["evaluate"]["reference"] or ("teacher" if "teacher" in self.networks else "")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The `(network, reference)` that a final evaluation compares: all with `reference`, and `evaluate.pairs`."""
        if self.settings["kind"] != "evaluate":
            return []
        towards = [(name, self.reference) for name in self.measured if self.reference not in ("", name)]
        named = [tuple(pair.split(":", 1)) for pair in self.settings["evaluate"]["pairs"]]
        return [*dict.fromkeys([*towards, *named])]

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
        if self.settings["kind"] in ("cache", "classifier"):
            return []
        if self.settings["kind"] == "merge":
            return [self.settings["merge"]["into"]]
        return [n for n, s in self.networks.items() if n in self.fresh and not s.frozen]

    @property
    def made(self) -> dict[str, Any]:
        """Shapes of the variables of the networks that its checkpoints hold, by name."""
        return {n: self.fresh[self._like(n)] for n in self.saved}

    def _like(self, name: str) -> str:
        """The network of the cast that a saved one is shaped like: itself, or the first of those that it is made of."""
        return self.settings["merge"]["networks"][0] if self.settings["kind"] == "merge" else name

    @property
    def measured(self) -> list[str]:
        """The networks that are evaluated: those named; else all of them, and in training those that learn."""
        spec = self.settings["evaluate"]
        if spec["split"] not in self.dataset.splits or self.settings["kind"] in ("merge", "cache", "classifier"):
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

    def whole(self, role: str) -> Split:
        """The split whose places are indices: for training all that it may train on, whatever is cut out of it."""
        return self.train.whole if role == "train" else self.dataset.split(role)

    @functools.cached_property
    def content(self) -> Callable[[str], str]:
        """Returns the digest of the images of a split, by role; each is read once."""
        return functools.cache(lambda role: content(self.whole(role)))

    def answers(self, role: str) -> Answers:
        """What its cached networks say of a split; those that say nothing of it are not asked (`caching.check`)."""
        return Answers({name: cache for name, cache in self.caches.items() if role in cache.header.splits}, role)

    @property
    def cycle(self) -> int:
        """After how many views those of an example come again; 0 for never."""
        views = [cache.header.splits["train"][1] for cache in self.caches.values() if "train" in cache.header.splits]
        augmented = self.settings["data"]["augment"]
        return self.settings["data"]["cycle"] or (min(views, default=0) if augmented else 0)

    @functools.cached_property
    def resident(self) -> bool:
        """Whether the whole of what it trains on, and what is cached of it, are held on the device."""
        cached = [cache.header.split_bytes("train") for cache in self.caches.values() if "train" in cache.header.splits]
        images = len(self.train.whole) * math.prod(self.dataset.shape)
        return section.is_resident(self.settings["data"], images + sum(cached))

    def loader(self):
        """The loader of the training split: resident where asked or where it fits, else streamed."""
        kind = loader.Resident.of if self.resident else loader.Streamed
        return kind(
            self.train,
            seed=self.data_seed,
            batch=self.settings["batch"],
            classes=self.dataset.classes,
            part=self.part,
            answers=self.answers("train"),
            cycle=self.cycle,
        )

    @property
    def held(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of what the loader holds on the device."""
        if not self.resident:
            return {}
        views = {f"{core.CACHED}{name}/": cache.header.splits["train"][1] for name, cache in self.caches.items()}

        def shape(name, x):
            beside = [number for start, number in views.items() if name.startswith(start)]
            return jax.ShapeDtypeStruct((len(self.train.whole), *beside, *x.shape[1:]), x.dtype)

        return {n: shape(n, x) for n, x in self.raw.items() if n not in ("index", "view", "mask")}

    def once(self, role: str, part: Split | None = None) -> Iterator[dict[str, np.ndarray]]:
        """The batches of an evaluation of a split, or of a part of it."""
        split = self.dataset.split(role) if part is None else part
        return loader.once(split, self.evaluation_batch, self.dataset.classes, self.part, self.answers(role))

    def metrics(self) -> dict[str, Any]:
        return {name: metrics.find(name) for name in self.settings["evaluate"]["metrics"]}
