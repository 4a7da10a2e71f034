"""The predictions of a network that reads another prompt, at the places of the student's answer."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.modules.next_token import partners
from jaxdistill.networks.meaning import Meaning
from jaxdistill.networks.options import NetworkRef, required, select
from jaxdistill.networks.source import Context, Outputs, Source


@dataclasses.dataclass(frozen=True)
class Aligned(Source):
    """The logits of a network of `teacher_tokens`, at the positions of `tokens`, for every method of logits.

    Snell, Klein, Zhong, "Learning by Distilling Context", 2022, https://arxiv.org/abs/2209.15189: the teacher sees
    instructions, examples or a document before the prompt, and the student learns to answer without. The k-th position
    that counts in the student's text gets the logits of the k-th that counts in the teacher's, whose answer has the
    same tokens; logits of other positions are any. It has no taps. Without `teacher_tokens` both read the same.
    """

    of: NetworkRef = required("network that reads teacher_tokens")
    evaluated_by_default = False

    @classmethod
    def build(cls, name: str, options: Mapping[str, Any], context: Context) -> Self:
        student, teacher = (context.meanings.get(field, Meaning()) for field in (context.input, "teacher_tokens"))
        if teacher.tokenizer and teacher.tokenizer != student.tokenizer:
            raise UserError(
                f"networks.{name}.source must be another than 'aligned' for a teacher with another tokenizer, got"
                f" {teacher.tokenizer!r} beside {student.tokenizer!r}. Take method 'uld'"
            )
        return cls(**select(cls, options))

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        logits = outputs[self.of].logits
        if "teacher_valid" not in batch:
            return Output(logits), {}
        rows = core.rows(logits)
        if core.prediction_shape(logits) != batch["teacher_valid"].shape:
            raise UserError(
                f"of must be a network of teacher_tokens, whose predictions are {batch['teacher_valid'].shape}, got"
                f" {self.of!r} of {core.prediction_shape(logits)}. Set its input='teacher_tokens'"
            )
        position, _ = partners(batch["valid"], batch["teacher_valid"])

        def take(x: jax.Array) -> jax.Array:
            index = position.reshape(position.shape + (1,) * (x.ndim - 2))
            return jnp.take_along_axis(x, index, 1)

        return Output(core.with_rows(logits, jax.tree.map(take, rows))), {}
