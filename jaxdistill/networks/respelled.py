"""The predictions of a network that reads other tokens, at the places of the student's tokens and over these."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Logits, Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.modules import spans
from jaxdistill.modules.next_token import next_token
from jaxdistill.modules.respelled_logits import RespelledLogits
from jaxdistill.networks.options import NetworkRef, required, select
from jaxdistill.networks.source import Context, Outputs, Source


@dataclasses.dataclass(frozen=True)
class Respelled(Source):
    """The logits and likelihoods of a network of `teacher_tokens`, where and as the student's tokens have them.

    Tokens of both that write the same bytes stand for one another (`data.spans`). Where a token of the text is the same
    bytes for both, the logits are the teacher's for that token: over the student's tokens, of which those that the
    teacher has not are one class, the rest; other positions have any. The tap `span_log_prob`, `[batch, length]`, is
    the log-likelihood of a span of several tokens, the sum over the teacher's tokens in it, at the student's last one;
    0 elsewhere. Method `alm` takes both. Without `teacher_tokens` both read the same.

    Attributes:
        token_map: for each token of the student the teacher's of the same bytes, -1 for none.
    """

    of: NetworkRef = required("network that reads teacher_tokens")
    chunk: int = option(0, "tokens whose logits are computed at a time for likelihoods; 0 for all", least=0)
    token_map: tuple[int, ...] = ()
    evaluable = False

    @classmethod
    def build(cls, name: str, options: Mapping[str, Any], context: Context) -> Self:
        if not context.token_map:
            raise UserError(
                f"data.spans must be True for networks.{name} with source='respelled', got False or data without it"
                f" ({context.dataset!r}). Set it, with data.teacher_tokenizer"
            )
        if max(context.token_map) < 0:
            raise UserError(
                f"networks.{name}.source must be another than 'respelled' for tokenizers without a common token, got"
                f" {len(context.token_map)} tokens of {context.dataset!r}. Take method 'uld'"
            )
        return cls(**select(cls, options), token_map=context.token_map)

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        logits = outputs[self.of].logits
        if not spans.has_spans(batch):
            return Output(logits), {}
        if core.prediction_shape(logits) != batch[spans.TEACHER_SPAN].shape:
            raise UserError(
                f"of must be a network of teacher_tokens, whose predictions are {batch[spans.TEACHER_SPAN].shape}, got"
                f" {self.of!r} of {core.prediction_shape(logits)}. Set its input='teacher_tokens'"
            )
        aligned = spans.align(batch)

        def take(x: jax.Array) -> jax.Array:
            return jnp.take_along_axis(x, aligned.partner.reshape(aligned.partner.shape + (1,) * (x.ndim - 2)), 1)

        paired = core.with_rows(logits, jax.tree.map(take, core.rows(logits)))
        return Output(self._respell(paired), {"span_log_prob": self._log_likelihoods(logits, batch, aligned)}), {}

    def _respell(self, logits: Logits) -> Logits:
        token_map, teacher = np.array(self.token_map), core.num_classes(logits)
        if len(token_map) == teacher and (token_map == np.arange(teacher)).all():
            return logits
        ids = np.flatnonzero((token_map >= 0) & (token_map < teacher))
        return RespelledLogits(
            logits, jnp.array(ids, jnp.int32), jnp.array(token_map[ids], jnp.int32), num_classes=len(token_map)
        )

    def _log_likelihoods(self, logits: Logits, batch: Batch, aligned: spans.Spans) -> jax.Array:
        label, _ = next_token(batch["teacher_tokens"], batch["mask"])
        log_probs = spans.log_likelihoods(logits, label, self.chunk)
        size = max(batch[spans.SPAN].shape[1], label.shape[1])
        sums = spans.total(log_probs, aligned.teacher_number, size)
        return jnp.where(aligned.is_last, spans.spread(sums, aligned.number), 0.0)
