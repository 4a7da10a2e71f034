"""The protocol of a task."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.config.schema import DataConfig
from jaxdistill.core import Batch, Output, Term
from jaxdistill.data.dataset import Dataset
from jaxdistill.errors import UserError, unknown
from jaxdistill.metrics import GatheringMetric, Metric
from jaxdistill.networks import Ensemble, ImageSpec, Source

CLASS_FORMS = ("classes", "boxes")
"""Forms of predictions whose labels are classes."""


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of an example.

    Attributes:
        axes: names of its axes.
        integer: whether its numbers must be integers.
        required: whether every dataset of the task must have it.
    """

    axes: tuple[str, ...] = ()
    integer: bool = True
    required: bool = True


@dataclasses.dataclass(frozen=True)
class StageParts:
    """Parts of a stage that a task checks.

    Attributes:
        networks: by name.
        terms: by name.
        prediction_axes: number of axes of each network's predictions, by name.
    """

    networks: Mapping[str, Source]
    terms: Mapping[str, Term]
    prediction_axes: Mapping[str, int]


AUTO, USUAL = "auto", ("accuracy", "nll")
"""The name in `evaluate.metrics` of a task's own metrics, and those of classes."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A task on a dataset; a subclass defines the class attributes and what differs.

    Class attributes:
        fields: fields of an example, by name.
        inputs: fields that a model may take as inputs, the main one first.
        axes: axes of the predictions, the batch's first: `("example",)` for one prediction per example.
        metric_names: metrics that fit.
        truth: fields of an example that an evaluation stores beside the predictions.
        preferred: metrics that select a checkpoint before those named first in `evaluate.metrics`.
        figures: sections of the report beside those of every task: "confusion", "classes", "labels", "targets" and
            "calibration" of scores, "disagreements" and "saliency" of examples, the pictures of a task, and "texts"
            that networks write.
        pictured_fields: fields of an example that the report draws beside predictions of `picture`, `image` among them.
        reads_class_labels: whether labels are of the classes that the dataset names, and that weights keep.
        keeps_size: whether networks get images in their size, whatever that of their training.
        predictions: the form of a prediction: scores of "classes" of which one is right, of "labels" of which several
            may be, or numbers of the distribution of targets.
        averages: what an ensemble of networks can average.
        class_noun: what a prediction chooses among, in the plural.
        remedy: advice for a network with other predictions.
    """

    dataset: Dataset

    fields: ClassVar[Mapping[str, Field]] = {}
    inputs: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[tuple[str, ...]] = ("example",)
    metric_names: ClassVar[tuple[str, ...]] = ()
    truth: ClassVar[tuple[str, ...]] = ("label",)
    preferred: ClassVar[tuple[str, ...]] = ()
    figures: ClassVar[tuple[str, ...]] = ()
    pictured_fields: ClassVar[tuple[str, ...]] = ()
    reads_class_labels: ClassVar[bool] = True
    keeps_size: ClassVar[bool] = False
    predictions: ClassVar[str] = "classes"
    averages: ClassVar[tuple[str, ...]] = ("probabilities", "logits")
    class_noun: ClassVar[str] = "classes"
    remedy: ClassVar[str] = "Use another network, or set task to that of its predictions."

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        """Returns whether the task follows from a dataset's fields."""
        return False

    @classmethod
    def for_dataset(cls, dataset: Dataset) -> type["Task"]:
        """Returns the task on the examples of a dataset, whose inputs may determine a part of it."""
        return cls

    @classmethod
    def make(cls, dataset: Dataset, data: DataConfig) -> "Task":
        """Returns the task of a stage.

        Args:
            dataset: opened.
            data: settings of augmentation and standardisation.

        Raises:
            UserError: for a dataset that lacks a field.
        """
        task = cls(dataset)
        task.check_dataset()
        return task

    @property
    def name(self) -> str:
        """The name that a config gives it: that of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def num_classes(self) -> int:
        """Number of classes of a prediction; 0 if the dataset does not determine it."""
        return len(self.dataset.class_names)

    @property
    def choices(self) -> str:
        """Words for the classes of a prediction, with their number."""
        return f"{self.num_classes} {self.class_noun}"

    @property
    def has_labels(self) -> bool:
        """Whether the dataset has the labels of this task."""
        return bool(self.dataset.class_names)

    @property
    def draws_masks(self) -> bool:
        """Whether parts of an example are hidden at random, others in each view."""
        return False

    @property
    def unit(self) -> str:
        """Name of what has one prediction: "example" or "token"."""
        return self.axes[-1]

    @property
    def image_spec(self) -> ImageSpec | None:
        """Shape and standardisation of the images; `None` without images."""
        return None

    def network_inputs(self, *, augmented: bool) -> list[str]:
        """Returns the fields of a batch that a network can name as its input.

        Args:
            augmented: whether the batch is one of training, with all augmented views.
        """
        return [self.inputs[0]]

    def align(self, batch: Batch) -> Batch:
        """Returns the batch with `label` and `valid`, `[*n]` as the predictions are.

        `label` is `UNLABELLED` (or a distribution that is 0 everywhere) for an unknown one. `valid` is float32, 1 for
        predictions that exist and count, with a label or without. By default an example has one
        prediction.
        """
        return {**batch, "valid": batch["mask"]}

    def prepare(self, batch: Batch) -> Batch:
        """Returns a raw batch as networks take it in an evaluation, aligned."""
        return self.align(batch)

    def augment(self, *, seed: Any) -> Callable[[Batch], Batch]:
        """Returns the function from a raw batch to an augmented and aligned one.

        Args:
            seed: of the augmentation, an int or a traced scalar.
        """
        return self.prepare

    def predict(self, output: Output, batch: Batch) -> dict[str, jax.Array]:
        """Returns the predictions of a prepared batch that metrics score by example, by name, `[batch, ...]`.

        By default, if each example has one class: `prediction`, int32, and its probability `confidence`, float32.
        """
        if len(core.prediction_shape(output.logits)) > 1:
            return {}
        logits = core.dense(output.logits)
        best = jnp.max(jax.nn.log_softmax(logits), -1)
        return {"prediction": jnp.argmax(logits, -1).astype(jnp.int32), "confidence": jnp.exp(best)}

    def in_units(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns arrays of `predict` or `truth`, `[examples, ...]`, as they are stored; by default as they are."""
        return dict(arrays)

    def picture(self, output: Output, batch: Batch) -> dict[str, jax.Array]:
        """Returns what the report draws of a network's predictions, by name, `[batch, ...]`; by default nothing."""
        return {}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that fit the dataset."""
        return self.metric_names

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that `AUTO` stands for: of classes `USUAL`, else those that the task names first."""
        return tuple(name for name in USUAL if name in self.metrics) or self.metrics[:2]

    def metric(self, name: str) -> Metric | GatheringMetric:
        """Returns a metric by its name, or by `"package.module:Name"`.

        Raises:
            UserError: for one that does not fit the task.
        """
        if ":" not in name and name not in self.metrics:
            raise unknown("evaluate.metrics", name, self.metrics, f"metrics of the task {self.name}")
        member = registry.find("metric", name, "evaluate.metrics")
        try:
            metric = member() if isinstance(member, type) else member
        except TypeError as error:  # of a user's own class
            raise UserError(f"evaluate.metrics must be a class without arguments, got {name!r} ({error})") from error
        if not isinstance(metric, (Metric, GatheringMetric)):
            raise UserError(
                f"evaluate.metrics must be a metric with better, needs_reference, needs_labels, sums and finish, got"
                f" {name!r}, a {type(metric).__name__}. Define them"
            )
        return metric

    def check_dataset(self) -> None:
        """Raises `UserError` for a dataset that lacks a field, or has one of another shape or dtype."""
        name, present = self.dataset.name, self.dataset.fields
        for field, spec in self.fields.items():
            if field not in present:
                if spec.required:
                    raise UserError(
                        f"task {self.name!r} must have a dataset with the field {field!r}, got {name!r} with"
                        f" {[*present]}. Take another dataset or task."
                    )
                continue
            shape, dtype = present[field]
            if len(shape) != len(spec.axes) or (spec.integer and not np.issubdtype(dtype, np.integer)):
                kind = "integers" if spec.integer else "numbers"
                raise UserError(
                    f"field {field!r} of {name!r} must be {kind} {list(spec.axes)}, got {dtype} {list(shape)}. Take"
                    " another task or mend the dataset."
                )

    def check_model(self, network: str, model: str, module: Any, *, field: str, models: Mapping[str, type]) -> None:
        """Raises `UserError` for a network whose inputs are no fields of the dataset.

        Args:
            network: its name.
            model: name of its model.
            module: the model.
            field: the input of the network.
            models: all models by name.
        """
        taken = _main_inputs(module)
        if not {*taken} & {*self.inputs}:
            fitting = [name for name, member in models.items() if {*_main_inputs(member)} & {*self.inputs}]
            raise UserError(
                f"networks.{network}.model must take {self.inputs[0]!r}, the input of {self.dataset.name!r}, got"
                f" {model!r}, which takes {' or '.join(map(repr, taken))}. Use one of the models {fitting}, or another"
                " dataset."
            )

    def check(self, parts: StageParts) -> None:
        """Raises `UserError` for networks and methods that do not fit the task."""
        for name, source in parts.networks.items():
            missing = [field for field in source.needs_fields if field not in self.fields]
            if missing:
                raise UserError(
                    f"network {name!r} ({type(source).__name__.lower()}) must have examples with {missing}, got"
                    f" {self.dataset.name!r} with {[*self.fields]}. Leave it out."
                )
            self._check_average(name, source)
        for name, term in parts.terms.items():
            forms = term.method.predictions or (CLASS_FORMS if term.method.needs_labels else ())
            if forms and self.predictions not in forms:
                raise UserError(
                    f"terms.{name}.method must compare predictions of the form {self.predictions!r} (task"
                    f" {self.name!r}), got {type(term.method).__name__}, which compares {[*forms]}. Take another"
                    f" method, such as one of {_methods_of(self.predictions)}"
                )

    def _check_average(self, name: str, source: Source) -> None:
        """Raises `UserError` for an ensemble that averages or weighs what the predictions are not."""
        if not isinstance(source, Ensemble):
            return
        if source.average not in self.averages:
            raise UserError(
                f"networks.{name}.average must be one of {self.averages} for task {self.name!r}, got"
                f" {source.average!r}, which are those of other predictions. Set it"
            )
        if source.weighting != "equal" and "probabilities" not in self.averages:
            raise UserError(
                f"networks.{name}.weighting must be 'equal' for task {self.name!r}, got {source.weighting!r}, which"
                " reads probabilities of classes. Remove it"
            )

    def check_measured(self, names: Iterable[str], parts: StageParts) -> None:
        """Raises `UserError` for networks whose predictions cannot be measured.

        Args:
            names: networks that are evaluated, or that others are compared with.
            parts: of the stage.
        """
        for network in dict.fromkeys(names):
            self.check_predictions(f"evaluate: network {network!r}", network, parts)

    def check_predictions(self, what: str, network: str, parts: StageParts) -> None:
        """Raises `UserError` for a network with other predictions than the task's.

        Args:
            what: begins the message.
            network: its name.
            parts: of the stage.
        """
        axes = parts.prediction_axes[network]
        if axes != len(self.axes):
            raise UserError(
                f"{what} must output one prediction per {self.unit} (task {self.name!r}), got predictions with {axes}"
                f" axes. {self.remedy}"
            )


def _methods_of(predictions: str) -> list[str]:
    """Returns the names of the methods that compare predictions of a form."""
    members = {name: registry.find("method", name) for name in registry.names("method")}
    return [name for name, member in members.items() if predictions in member.predictions]


def _main_inputs(model: Any) -> tuple[str, ...]:
    """Returns the fields that a model can take as its first input."""
    return getattr(model, "main_inputs", getattr(model, "inputs", ("image",))[:1])
