"""Logits over the tokens of one vocabulary, as those of another."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdistill import core
from jaxdistill.core import LogitsForm, TopK
from jaxdistill.losses import topk


@struct.dataclass
class RespelledLogits(LogitsForm):
    """Logits over a teacher's tokens, of which those that a student has too are listed and all others are the rest.

    Attributes:
        logits: over the teacher's tokens, of the predictions `[*n]`.
        ids: int32 `[k]`, the tokens of the student that the teacher has too, ascending.
        teacher_ids: int32 `[k]`, the teacher's numbers of these.
        num_classes: the number of the student's tokens.
    """

    logits: Any
    ids: Any
    teacher_ids: Any
    num_classes: int = struct.field(pytree_node=False)
    lists_all_classes = False

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return core.prediction_shape(self.logits)

    @property
    def rows(self) -> Any:
        return core.rows(self.logits)

    def with_rows(self, rows: Any) -> "RespelledLogits":
        return dataclasses.replace(self, logits=core.with_rows(self.logits, rows))

    def comparable(self) -> TopK:
        return respell(self.num_classes, core.dense(self.logits), self.ids, self.teacher_ids)

    def row_function(self) -> jax.tree_util.Partial:
        return jax.tree_util.Partial(
            _Respell(self.num_classes), core.row_function(self.logits), self.ids, self.teacher_ids
        )

    def describe(self) -> str:
        return f"of {self.ids.shape[0]} of {self.num_classes} tokens {self.prediction_shape[1:]}, and of the rest"


@dataclasses.dataclass(frozen=True)
class _Respell:
    """The function of `row_function`; equal ones are one for `jit`."""

    num_classes: int

    def __call__(self, function: Any, ids: jax.Array, teacher_ids: jax.Array, rows: Any) -> TopK:
        return respell(self.num_classes, function(rows), ids, teacher_ids)


def respell(num_classes: int, logits: jax.Array, ids: jax.Array, teacher_ids: jax.Array) -> TopK:
    """Returns the log-probabilities of the tokens that both vocabularies have, and of the rest."""
    shape = (*logits.shape[:-1], ids.shape[0])
    top = topk.from_ids(logits, jnp.broadcast_to(teacher_ids, shape))
    return TopK(top.values, jnp.broadcast_to(ids, shape), top.log_rest, num_classes)
