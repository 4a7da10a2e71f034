"""Promises of tasks, on random examples with the fields of the task."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.config import registry
from jaxdistill.config.schema import DataConfig
from jaxdistill.conformance.promise import BrokenPromise, Promise, require, require_close
from jaxdistill.core import Batch
from jaxdistill.data.dataset import Dataset, Split
from jaxdistill.errors import UserError
from jaxdistill.tasks.task import Task

EXAMPLES, CLASSES = 6, 2
SIZES = {"height": 8, "width": 8, "channels": 1, "length": 7}
"""Size of an axis by its name; 4 for other names."""

DATA = {"name": "digits"}
"""Settings of `data`: images are standardised as the digits, which have the sizes above."""


@dataclasses.dataclass(frozen=True)
class Fields(Split):
    """Examples in memory, with any fields."""

    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return EXAMPLES

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array[positions] for name, array in self.arrays.items()}

    def labels(self) -> np.ndarray:
        return self.arrays.get("label", np.zeros(EXAMPLES, np.int32))


@dataclasses.dataclass(frozen=True)
class ToyTask:
    """A task of random examples."""

    task: Task

    def batch(self, mask: np.ndarray) -> Batch:
        """Returns all examples as a raw batch; `mask` is `[EXAMPLES]`."""
        positions = np.arange(EXAMPLES)
        fields = self.task.dataset.split("train").take(positions)
        facts = {"index": positions.astype(np.int32), "view": np.zeros(EXAMPLES, np.int32), "mask": mask}
        return {name: jnp.asarray(array) for name, array in (fields | facts).items()}

    @property
    def full(self) -> Batch:
        """A raw batch whose examples all count."""
        return self.batch(np.ones(EXAMPLES, np.float32))


def make_dataset(member: type[Task], without: str = "") -> Dataset:
    """Returns a dataset of random examples with all fields of a task but one."""
    draw, arrays = np.random.default_rng(0), {}
    for name, field in member.fields.items():
        shape = (EXAMPLES, *(SIZES.get(axis, 4) for axis in field.axes))
        high, dtype = (CLASSES, np.int32) if field.integer else (256, np.uint8)
        arrays[name] = draw.integers(0, high, shape).astype(dtype)
        if name == "boxes":  # two corners each, the upper left one first
            corners = np.sort(draw.random((*shape[:-1], 2, 2)), -2)
            arrays[name] = corners.reshape(shape).astype(np.float32)
        if name.endswith("_mask"):  # padding follows the tokens
            arrays[name] = (np.arange(shape[-1]) < draw.integers(3, shape[-1] + 1, (EXAMPLES, 1))).astype(dtype)
    arrays.pop(without, None)
    shape = next((array.shape[1:] for array in arrays.values()), ())
    vocabulary = 0 if "image" in member.fields else CLASSES
    return Dataset({"train": Fields(arrays)}, tuple("ab"), shape, vocabulary=vocabulary, name="random examples")


def make_subject(member: type[Task], **fields: Any) -> ToyTask:
    """Makes a task of random examples.

    Args:
        member: its class.
        fields: settings of the section `data`.
    """
    member = member if member.inputs else member.for_dataset(make_dataset(member))
    return ToyTask(member.make(make_dataset(member), DataConfig(**DATA | fields)))


def declared(toy: ToyTask) -> None:
    task = type(toy.task)
    require(task.axes[:1] == ("example",), f"axes must begin with 'example', got {task.axes}")
    missing = [name for name in task.inputs if name not in task.fields]
    require(not missing, f"inputs must be fields, got {missing}")
    missing = [name for name in task.truth if name not in (*task.fields, "label")]
    require(not missing, f"truth must be fields, got {missing}")
    for name in task.metric_names:
        registry.find("metric", name, "metric_names")
    missing = [name for name in task.preferred if name not in task.metric_names]
    require(not missing, f"preferred must be metric_names, got {missing}")


def missing_fields_refused(toy: ToyTask) -> None:
    task = type(toy.task)
    for name, field in task.fields.items():
        if field.required:
            try:
                task.make(make_dataset(task, without=name), DataConfig(**DATA))
            except UserError:
                continue
            raise BrokenPromise(f"a dataset without {name!r} must be refused with a UserError")


def aligned(toy: ToyTask) -> None:
    for name, batch in {"prepare": toy.task.prepare(toy.full), "augment": toy.task.augment(seed=0)(toy.full)}.items():
        valid, label = batch["valid"], batch["label"]
        # The locations of boxes are the network's, and all of them count.
        axes = len(toy.task.axes) if toy.task.predictions != "boxes" else 1
        expected = toy.task.axes[:axes]
        require(valid.ndim == axes, f"{name}: valid must have the axes {expected}, got {list(valid.shape)}")
        require(valid.dtype == jnp.float32, f"{name}: valid must be float32, got {valid.dtype}")
        require(label.shape[:axes] == valid.shape, f"{name}: label must begin with {valid.shape}, got {label.shape}")
        require(bool(jnp.isin(valid, jnp.array([0.0, 1.0])).all()), f"{name}: valid must be 0 or 1")
        require(bool((valid > 0).any()), f"{name}: valid must be 1 for a prediction of the examples")


def padding_is_not_valid(toy: ToyTask) -> None:
    mask = np.ones(EXAMPLES, np.float32)
    mask[4:] = 0
    for batch in (toy.task.prepare(toy.batch(mask)), toy.task.augment(seed=0)(toy.batch(mask))):
        require(not bool(jnp.any(batch["valid"][4:])), "valid must be 0 for examples that are masked")


def traceable(toy: ToyTask) -> None:
    for function in (toy.task.prepare, toy.task.augment(seed=0)):
        require_close(jax.jit(function)(toy.full), function(toy.full), "the batch in jit", rtol=1e-4, atol=1e-4)


def deterministic(toy: ToyTask) -> None:
    batches = [toy.task.augment(seed=3)(toy.full) for _ in range(2)]
    require_close(batches[0], batches[1], "the augmented batch of one seed", rtol=0.0)


PROMISES = (
    Promise("its class attributes are consistent", declared),
    Promise("a dataset without a required field is refused", missing_fields_refused),
    Promise("label and valid are aligned with the predictions", aligned),
    Promise("predictions of masked examples are not valid", padding_is_not_valid),
    Promise("batches are prepared and augmented in jit too", traceable),
    Promise("augmentation is determined by its seed", deterministic),
)
