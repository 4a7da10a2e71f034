"""The data of a stage: its splits and caches, the shapes of a batch, and the loaders."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.config.schema import DataConfig
from jaxdistill.core import Batch
from jaxdistill.data import build, loader
from jaxdistill.data.cache_records import read_dtype
from jaxdistill.data.dataset import Dataset, Split
from jaxdistill.data.output_cache import BlankOutputs, Cache, CachedOutputs, content
from jaxdistill.tasks import Task

ROWS = {"index": jnp.int32, "view": jnp.int32, "mask": jnp.float32}
"""Fields of a raw batch that are numbers of an example, and no part of it."""


@dataclasses.dataclass(frozen=True)
class StageData:
    """The examples of a stage, and how they are read.

    Attributes:
        settings: the section `data`.
        dataset: the main dataset.
        train: the examples to train on, of the main dataset and of those mixed in.
        task: prepares batches, and determines labels and metrics.
        batch_size: examples of a training step.
        evaluation_batch_size: examples of a step of an evaluation.
        seed: of order and augmentation.
        process: the rows that this process reads.
        caches: the caches that networks read, by network.
    """

    settings: DataConfig
    dataset: Dataset
    train: Split
    task: Task
    batch_size: int
    evaluation_batch_size: int
    seed: int
    process: loader.ProcessShard
    caches: Mapping[str, Cache] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def augment(self) -> Callable[[Batch], Batch]:
        """The augmentation of a raw batch."""
        return self.task.augment(seed=self.seed)

    @property
    def prepare(self) -> Callable[[Batch], Batch]:
        """The preparation of a raw batch in an evaluation."""
        return self.task.prepare

    @functools.cached_property
    def raw_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a raw batch of training."""
        size = self.batch_size
        example = self.dataset.split("train").take(np.arange(1))
        shapes = {name: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for name, x in example.items()}
        shapes |= {name: jax.ShapeDtypeStruct((size,), dtype) for name, dtype in ROWS.items()}
        for network, cache in self.caches.items():
            for array, (shape, dtype) in cache.header.arrays.items():
                shapes[f"{core.CACHED}{network}/{array}"] = jax.ShapeDtypeStruct((size, *shape), read_dtype(dtype))
        return shapes

    @functools.cached_property
    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of an augmented batch."""
        return jax.eval_shape(self.augment, self.raw_batch)

    def base_split(self, role: str) -> Split:
        """Returns the split that the indices of examples refer to: for training without any selection."""
        return self.train.base if role == "train" else self.dataset.split(role)

    @functools.cached_property
    def digest(self) -> Callable[[str], str]:
        """Returns the digest of the inputs of a split, by role; each split is read once."""
        return functools.cache(lambda role: content(self.base_split(role)))

    def cached_outputs(self, role: str) -> CachedOutputs:
        """Returns the cached outputs for a split, of the networks that have any for it."""
        return CachedOutputs({name: cache for name, cache in self.caches.items() if role in cache.header.splits}, role)

    @property
    def cycle(self) -> int:
        """The number of views after which those of an example repeat; 0 for never."""
        views = [cache.header.splits["train"][1] for cache in self.caches.values() if "train" in cache.header.splits]
        return self.settings.cycle or (min(views, default=0) if self.settings.augment else 0)

    def is_resident(self, role: str) -> bool:
        """Whether a split, and what is cached of it, are kept on the device.

        One of sparse features, or that is mapped, is if that is set; texts in batches of several lengths never are.
        """
        streams = self.dataset.is_sparse or self.dataset.split(role).is_mapped
        if self.settings.buckets or (streams and self.settings.resident == "auto"):
            return False
        cached = [cache.header.split_bytes(role) for cache in self.caches.values() if role in cache.header.splits]
        examples = len(self.base_split(role)) * self.dataset.example_bytes
        return build.is_resident(self.settings.resident, examples + sum(cached))

    @functools.cached_property
    def resident(self) -> bool:
        """Whether the training split is resident."""
        return self.is_resident("train")

    @property
    def shows_labels(self) -> bool:
        """Whether any training example has a label that is neither missing nor hidden.

        Those of a streamed split of classes are not read: of records, this would take a pass.
        """
        if self.task.axes != ("example",) or not (self.resident or self.task.predictions != "classes"):
            return True
        return bool(np.any(self.train.labels() != core.UNLABELLED))

    @property
    def resident_arrays(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arrays that the loader keeps on the device."""
        if not self.resident:
            return {}
        views = {f"{core.CACHED}{name}/": cache.header.splits["train"][1] for name, cache in self.caches.items()}

        def all_examples(name: str, x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            axes = [number for start, number in views.items() if name.startswith(start)]
            return jax.ShapeDtypeStruct((len(self.train.base), *axes, *x.shape[1:]), x.dtype)

        return {name: all_examples(name, x) for name, x in self.raw_batch.items() if name not in ROWS}

    def loader(self) -> loader.Resident | loader.Streamed:
        """Returns the loader of the training split: resident if it is set or fits, else streamed."""
        streamed = functools.partial(
            loader.Streamed,
            num_threads=self.settings.num_threads,
            prefetch=self.settings.prefetch,
            buckets=tuple(self.settings.buckets),
        )
        make = loader.Resident.of if self.resident else streamed
        return make(
            self.train,
            seed=self.seed,
            batch=self.batch_size,
            classes=self.dataset.classes,
            shard=self.process,
            outputs=self.cached_outputs("train"),
            cycle=self.cycle,
            pool=self.settings.pool,
        )

    def batches(self, role: str, split: Split | None = None) -> Iterator[dict[str, np.ndarray]]:
        """Yields each example of a split once, in batches of an evaluation.

        Args:
            role: of the split.
            split: a part of it, to read that alone.
        """
        split = self.dataset.split(role) if split is None else split
        return self._iterate(split, self.cached_outputs(role))

    def blank_batch(self, role: str) -> dict[str, np.ndarray]:
        """Returns the first batch of an evaluation, with zeros for cached outputs: they may be still to be made."""
        outputs = BlankOutputs(self.cached_outputs(role).caches, role)
        return next(self._iterate(self.dataset.split(role), outputs))

    def _iterate(self, split: Split, outputs: CachedOutputs) -> Iterator[dict[str, np.ndarray]]:
        return loader.iterate_once(
            split,
            self.evaluation_batch_size,
            self.dataset.classes,
            self.process,
            outputs=outputs,
            buckets=self.settings.buckets,
        )
