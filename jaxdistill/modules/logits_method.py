"""Base class of the methods that compare logits and nothing else: one value per prediction, for every task."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from jaxdistill import core
from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import UserError, check_least, check_positive
from jaxdistill.losses import chunked

Labels = Int[Array, "*n"] | Float[Array, "*n classes"]
"""Class indices, -1 for none; or distributions over the classes, 0 everywhere for none."""


def has_label(label: Labels) -> Bool[Array, "*n"]:
    """Returns which predictions have a label."""
    return label >= 0 if jnp.issubdtype(label.dtype, jnp.integer) else jnp.sum(label, -1) > 0


class LogitsMethod(Method):
    """A method of logits `[*n, classes]`: images, texts, next tokens and pixels alike, dense or not computed yet.

    The task aligns `label` and `valid`, `[*n]`, with the predictions. A batch without `valid` has one prediction per
    example, or predictions that all count: `mask` `[batch]` is used then.

    Attributes:
        chunk: number of predictions that are compared at a time, 0 for all at once. With `Unembedding` outputs, or
            logits in bfloat16, no float32 array of `[*n, classes]` then exists (`losses/chunked.py`). Methods that
            compare predictions with each other (`needs_whole_batch`) need all of them, so they take only 0.

    Class attributes:
        listed_forms: forms that list some classes alone and that the teacher's logits may have, such as `TopK`.
    """

    chunk: int = dataclasses.field(default=0, kw_only=True)
    listed_forms: ClassVar[tuple[type[core.LogitsForm], ...]] = ()
    predictions = ("classes",)

    def check(self) -> None:
        check_least("chunk", self.chunk, 0)
        if self.needs_whole_batch and self.chunk:
            raise UserError(
                f"chunk must be 0, got {self.chunk}: {type(self).__name__} compares predictions with each other. Leave"
                " chunk out."
            )

    def valid(self, batch: Batch) -> Num[Array, "*m"]:
        """Returns the mask of the predictions that count, `[*n]` or `[batch]`; without a label they may not."""
        valid = batch["valid"] if "valid" in batch else batch["mask"]
        if not self.needs_labels:
            return valid
        labelled = has_label(batch["label"])
        return labelled * valid.reshape(valid.shape + (1,) * (labelled.ndim - valid.ndim))

    def compare(
        self,
        loss: Callable[..., jax.Array],
        student: Output,
        teacher: Output | None,
        *arrays: jax.Array,
        batch: Batch | None = None,
    ) -> Float[Array, "*n"]:
        """Returns `loss(student's logits, teacher's logits, *arrays)`, `[*n]`, computed on `chunk` at a time.

        Args:
            loss: `(logits [*n, classes], logits or TopK or None, *arrays) -> [*n]`, of each prediction alone.
            student: its logits may be an `Unembedding`.
            teacher: the same, or one of `listed_forms`.
            arrays: further inputs per prediction, `[*n, ...]`.
            batch: of a method that returns these values as they are, or times a scalar. The step takes their mean over
                the `valid` predictions, and chunks compute its gradient with the values; of any other function of
                them it is not a number. `None` for other methods, whose chunks are computed twice.

        Raises:
            UserError: for a `TopK` that the method cannot use.
        """
        self._check_forms(student, teacher)
        teacher_logits, weights = None if teacher is None else teacher.logits, None
        if self.chunk and batch is not None:
            valid = self.valid(batch)
            weights = valid.reshape(valid.shape + (1,) * (len(core.prediction_shape(student.logits)) - valid.ndim))
        return chunked.compare(loss, student.logits, teacher_logits, *arrays, chunk=self.chunk, weights=weights)

    def flatten(
        self, student: Output, teacher: Output, batch: Batch
    ) -> tuple[Float[Array, "n classes"], Float[Array, "n classes"], Num[Array, " n"], tuple[int, ...]]:
        """Flattens the predictions, for methods that compare them with each other.

        Returns:
            The student's logits, the teacher's, the mask of the predictions that count, and the shape `[*n]`.
        """
        self._check_forms(student, teacher)
        left, right = core.dense(student.logits), core.dense(teacher.logits)
        shape, valid = left.shape[:-1], self.valid(batch)
        mask = jnp.broadcast_to(valid.reshape(valid.shape + (1,) * (len(shape) - valid.ndim)), shape).reshape(-1)
        return left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1]), mask, shape

    def _check_forms(self, student: Output, teacher: Output | None) -> None:
        is_listed = teacher is None or isinstance(teacher.logits, self.listed_forms)
        outputs = [student] if teacher is None or is_listed else [student, teacher]
        if not all(core.lists_all_classes(output.logits) for output in outputs):
            raise UserError(
                f"method {type(self).__name__} must have the logits of all classes on both sides, got those of"
                " some only. Use a network that outputs logits; or take method 'top_k' for a teacher of the likeliest"
                " classes, 'random_sampling' for one of drawn ones."
            )


class TemperedLogitsMethod(LogitsMethod):
    """A method of logits that are divided by `temperature`."""

    temperature: Scalar = 1.0

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)
