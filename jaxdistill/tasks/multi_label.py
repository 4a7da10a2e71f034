"""Classification with several labels: each class of an example is a decision of its own."""

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks.any_input import AnyInputTask
from jaxdistill.tasks.task import Field


class MultiLabel(AnyInputTask):
    """Fields `labels`, `[classes]`, and `label`, 0 or -1 if all labels are missing or hidden, beside the inputs.

    A label is 1 if the example has the class, 0 if it has not, and NaN if that is missing. A network outputs one logit
    for each class.
    """

    supervision: ClassVar = {"labels": Field(("classes",), integer=False), "label": Field()}
    mixed: ClassVar = ("labels",)
    truth: ClassVar = ("labels",)
    metric_names: ClassVar = (
        *("average_precision", "auroc", "macro_f1", "micro_f1", "subset_accuracy", "label_accuracy", "binary_nll"),
        *("label_agreement", "binary_kl", "per_label"),
    )
    preferred: ClassVar = ("average_precision",)
    figures: ClassVar = ("labels",)
    predictions: ClassVar = "labels"
    averages: ClassVar = ("logits",)
    class_noun: ClassVar = "labels"

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return "labels" in dataset.fields

    def predict(self, output: Output, batch: Batch) -> dict[str, jax.Array]:
        """Returns `logits`, float32 `[batch, classes]`."""
        return {"logits": core.dense(output.logits).astype(jnp.float32)}

    def in_units(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns `probability` in the place of logits, float32 `[examples, classes]`."""
        names = {"logits": "probability"}
        parts = {names.get(name, name): array for name, array in arrays.items()}
        if "probability" in parts:
            parts["probability"] = np.exp(-np.logaddexp(0.0, -parts["probability"].astype(np.float64)))
        return {name: array.astype(np.float32) for name, array in parts.items()}
