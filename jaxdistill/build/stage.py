"""A stage of a run, built: what it trains or measures, on what, and how; shapes of all of it without computing any."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxdistill import core, networks
from jaxdistill.config import references
from jaxdistill.config.references import WeightsRef
from jaxdistill.config.schema import StageSettings
from jaxdistill.core import Schedule, Term
from jaxdistill.data import build, loader
from jaxdistill.data.dataset import Dataset, Split
from jaxdistill.data.output_cache import Cache, CachedOutputs, content
from jaxdistill.errors import UserError
from jaxdistill.metrics import Metric
from jaxdistill.tasks import Task
from jaxdistill.train.init import init_shapes, init_state
from jaxdistill.train.partitioning import NetworkRules, Partition, Partitioner, Rules

if TYPE_CHECKING:
    from jaxdistill.build.kind import Kind


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage, built.

    Attributes:
        kind: the kind of stage.
        settings: its config with durations in steps.
        train: what it trains on, of its main dataset and of those mixed in.
        task: prepares batches, and determines labels and metrics.
        caches: what its cached networks read, by name.
        lanes: the single runs that it does side by side, this one the first of them; none where there is one run.
        paired: the networks that start each lane from that lane of the stage that made them.
    """

    name: str
    kind: "Kind"
    settings: StageSettings
    dataset: Dataset
    train: Split
    task: Task
    networks: Mapping[str, networks.Source]
    terms: Mapping[str, Term]
    tx: optax.GradientTransformation
    rate: Schedule
    mesh: Mesh
    part: loader.ProcessShard
    caches: Mapping[str, Cache] = dataclasses.field(default_factory=dict)
    lanes: tuple["Stage", ...] = ()
    paired: tuple[str, ...] = ()

    @functools.cached_property
    def references(self) -> dict[str, dict[str, WeightsRef]]:
        """The weights and caches that its networks name: `{network: {key: reference}}`."""
        return references.parse_networks(self.settings.networks)

    @functools.cached_property
    def augment(self) -> Callable:
        """The augmentation of a batch."""
        return self.task.augment(seed=self.data_seed)

    @property
    def prepare(self) -> Callable:
        """The preparation of a batch of an evaluation."""
        return self.task.prepare

    @property
    def data_seed(self) -> int:
        """The seed of order and augmentation: the data's own, else the run's."""
        own = self.settings["data"]["seed"]
        return own if own >= 0 else self.settings["seed"]

    @functools.cached_property
    def raw(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a raw batch."""
        batch = self.settings["batch"]
        taken = self.dataset.split("train").take(np.arange(1))
        shown = {name: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for name, x in taken.items()}
        rows = {"index": jnp.int32, "view": jnp.int32, "mask": jnp.float32}
        said = {
            f"{core.CACHED}{name}/{array}": jax.ShapeDtypeStruct((batch, *shape), kind)
            for name, cache in self.caches.items()
            for array, (shape, kind) in cache.header.arrays.items()
        }
        return shown | {name: jax.ShapeDtypeStruct((batch,), kind) for name, kind in rows.items()} | said

    @functools.cached_property
    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of an augmented batch."""
        return jax.eval_shape(self.augment, self.raw)

    def initial(self, starts=None, seed=None):
        """The first state and frozen variables, from the networks' starts (`train.init`)."""
        key = jax.random.key(self.settings["seed"] if seed is None else seed)
        return init_state(self.networks, self.terms, self.tx, self.batch, key=key, weights=starts or {})

    @functools.cached_property
    def shapes(self):
        """Shapes of the first state and of the frozen variables."""
        return init_shapes(self.networks, self.terms, self.tx, self.batch)[:2]

    @functools.cached_property
    def placement(self) -> Partitioner:
        """Where arrays go, by the rules of the stage and of its networks."""
        cast = {}
        for name, source in self.networks.items():
            spec = self.settings["networks"].get(name, {})
            own = Rules.parse(spec["sharding"], f"networks.{name}.sharding") if spec.get("sharding") else None
            axes = tuple(getattr(getattr(source, "module", None), "axes", ()))
            follows = source.of if isinstance(source, networks.Follows) else ""
            cast[name] = NetworkRules(own, axes, follows, getattr(source, "offload", False))
        return Partitioner(self.mesh, Rules.parse(self.settings["sharding"]), cast)

    @functools.cached_property
    def placed(self):
        """The shardings of `shapes`."""
        return self.partitions[0].shardings, self.partitions[1].shardings["frozen"]

    @functools.cached_property
    def partitions(self) -> tuple[Partition, Partition]:
        """The partitions of `shapes`: of the state and of `{"frozen": ...}`."""
        state, frozen = self.shapes
        return self.placement.partition(state), self.placement.partition({"frozen": frozen})

    @functools.cached_property
    def called(self):
        """Shapes of the variables that its frozen networks are called with (`for_inference`)."""

        def convert(name: str, variables: core.Variables) -> core.Variables:
            return jax.eval_shape(lambda x: networks.for_inference(self.networks[name], x, self.batch), variables)

        return {name: convert(name, variables) for name, variables in self.shapes[1].items()}

    @functools.cached_property
    def fresh(self) -> dict[str, Any]:
        """Shapes of each network's own variables, by name."""
        state, frozen = self.shapes
        known = core.merge_variables(state.params, state.variables, frozen)
        return {name: known[name] for name in self.networks if name in known}

    @functools.cached_property
    def outputs(self) -> Mapping[str, Any]:
        """Shapes of what each network says about a batch."""
        try:
            return init_shapes(self.networks, {}, self.tx, self.batch)[2]
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            what = str(error).partition("\n")[0]
            raise UserError(f"stage {self.name!r}: its networks cannot be run on its data: {what}") from error

    @property
    def looks(self) -> dict[str, networks.ImageSpec]:
        """The images as each network that has a module sees them; nothing of texts."""
        spec = self.task.image_spec
        if spec is None:
            return {}
        own = {n: source.preprocess for n, source in self.networks.items() if hasattr(source, "preprocess")}
        own |= {n: own.get(self.kind.template(self, n)) for n in self.saved if n not in self.networks}
        return {n: preprocess.wanted if preprocess else spec for n, preprocess in own.items()}

    @property
    def reference(self) -> str:
        """The network that fidelity is measured against: the one named, else the teacher, else none ("")."""
        return self.settings["evaluate"]["reference"] or ("teacher" if "teacher" in self.networks else "")

    @property
    def compared(self) -> str:
        """The reference, where this stage measures something against it; else none ("")."""
        return self.reference if any(metric.needs_reference for metric in self.metrics().values()) else ""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs `(network, reference)` that it compares, by its kind."""
        return self.kind.pairs(self)

    @property
    def evaluation_batch(self) -> int:
        return self.settings["evaluate"]["batch"] or self.settings["batch"]

    @property
    def fitted(self) -> list[str]:
        """The networks that a stage of kind "components" fits."""
        return [name for name, source in self.networks.items() if source.fitted]

    @property
    def saved(self) -> list[str]:
        """The networks whose variables its checkpoints hold, by its kind."""
        return self.kind.saved(self)

    @property
    def made(self) -> dict[str, Any]:
        """Shapes of the variables of the networks that its checkpoints hold, by name."""
        return {n: self.fresh[self.kind.template(self, n)] for n in self.saved}

    @property
    def measured(self) -> list[str]:
        """The networks that it evaluates, by its kind."""
        return self.kind.measured(self)

    @property
    def numbers(self) -> list[str]:
        """The numbers that an evaluation finds and a checkpoint can be best by, the student's first."""
        rows = sorted(self.measured, key=lambda name: name != "student")
        able = [n for n, m in self.metrics().items() if m.better and (self.reference or not m.needs_reference)]
        able = sorted(able, key=lambda name: name not in self.task.preferred)
        return [f"{row}/{name}" for row in rows for name in able]

    def whole(self, role: str) -> Split:
        """The split whose places are indices: for training all that it may train on, whatever is cut out of it."""
        return self.train.base if role == "train" else self.dataset.split(role)

    @functools.cached_property
    def content(self) -> Callable[[str], str]:
        """Returns the digest of the images of a split, by role; each is read once."""
        return functools.cache(lambda role: content(self.whole(role)))

    def answers(self, role: str) -> CachedOutputs:
        """What its cached networks say of a split; those that say nothing of it are not asked (`caching.check`)."""
        return CachedOutputs({name: cache for name, cache in self.caches.items() if role in cache.header.splits}, role)

    @property
    def cycle(self) -> int:
        """After how many views those of an example come again; 0 for never."""
        views = [cache.header.splits["train"][1] for cache in self.caches.values() if "train" in cache.header.splits]
        augmented = self.settings["data"]["augment"]
        return self.settings["data"]["cycle"] or (min(views, default=0) if augmented else 0)

    @functools.cached_property
    def resident(self) -> bool:
        """Whether the whole of what it trains on, and what is cached of it, are held on the device."""
        return self.is_held("train")

    def is_held(self, role: str) -> bool:
        """Whether a split, and what is cached of it, are held on the device."""
        cached = [cache.header.split_bytes(role) for cache in self.caches.values() if role in cache.header.splits]
        examples = len(self.whole(role)) * self.dataset.example_bytes
        return build.is_resident(self.settings.data.resident, examples + sum(cached))

    def loader(self):
        """The loader of the training split: resident where asked or where it fits, else streamed."""
        reading = {"num_threads": self.settings.data.num_threads, "prefetch": self.settings.data.prefetch}
        kind = loader.Resident.of if self.resident else functools.partial(loader.Streamed, **reading)
        return kind(
            self.train,
            seed=self.data_seed,
            batch=self.settings["batch"],
            classes=self.dataset.classes,
            shard=self.part,
            outputs=self.answers("train"),
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
            return jax.ShapeDtypeStruct((len(self.train.base), *beside, *x.shape[1:]), x.dtype)

        return {n: shape(n, x) for n, x in self.raw.items() if n not in ("index", "view", "mask")}

    def once(self, role: str, part: Split | None = None) -> Iterator[dict[str, np.ndarray]]:
        """The batches of an evaluation of a split, or of a part of it."""
        split = self.dataset.split(role) if part is None else part
        outputs = self.answers(role)
        return loader.iterate_once(split, self.evaluation_batch, self.dataset.classes, self.part, outputs=outputs)

    def ranks(self, name: str) -> int:
        """The axes of a network's predictions: 1 for one of each example, 2 for one of each token."""
        return len(core.prediction_shape(self.outputs[name].logits))

    def classes_of(self, name: str) -> int:
        """Returns the number of classes, or of tokens of a vocabulary, that a network outputs."""
        return core.num_classes(self.outputs[name].logits)

    @property
    def saliency(self) -> bool:
        """Whether an evaluation looks where the networks look, which images alone can tell."""
        return self.settings["evaluate"]["saliency"] and "saliency" in self.task.figures

    def metrics(self) -> dict[str, Metric]:
        """The metrics of its evaluation by name."""
        return {name: self.task.metric(name) for name in self.settings["evaluate"]["metrics"]}
