"""Approximate likelihood matching, for a teacher with other tokens.

Minixhofer, Vulic, Ponti, "Universal Cross-Tokenizer Distillation via Approximate Likelihood Matching", 2025,
https://arxiv.org/abs/2503.20083.

    loss = KL((p^(1/T), 1 - p^(1/T)) || (q^(1/T), 1 - q^(1/T)))    for a span of several tokens
    loss = KL(p || q) over common tokens and the rest              for a span of one token on both sides

A text is cut into spans of bytes that both tokenizers write with whole tokens. Of several tokens p is the product of
the teacher's probabilities of these, and q of the student's; of one token they are distributions over the tokens that
both have, and one class of all others.

There is one value per span, at the student's position of its last token, and the mean is over spans. A span of one
token each, of equal tokenizers every one, has the KL of `forward_kl` at temperature 1, to the bit. Both are KLs of
coarser events than the two models have, and so 0 if these agree. Probabilities condition on the same bytes; of the next
token they differ where one tokenizer would have gone on with a longer one, the approximation of the name.

`T` is the paper's temperature of likelihoods, 100 there; 1 here is the plain KL. The paper takes the likelihoods alone,
also for spans of one token; the KL over tokens of one spelling is that of TRL's GOLD, which has a JSD, and ULD for the
other tokens, and merges probabilities up to common ends likewise.

Elsewhere: tokenkit adds debiasing of spans, by a teacher's probability that a token ends where it does; not offered.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jaxdistill.core import Batch, Output, Scalar, TopK, precise
from jaxdistill.errors import UserError, check_positive
from jaxdistill.losses import chunked, divergence, topk
from jaxdistill.modules import spans
from jaxdistill.modules.logits_method import LogitsMethod
from jaxdistill.modules.respelled_logits import RespelledLogits

CERTAIN = -1e-6
"""The largest log-likelihood: in float32 a probability closer to 1 is 1."""


def alm(student: Float[Array, "*n"], teacher: Float[Array, "*n"], temperature: Scalar) -> Float[Array, "*n"]:
    """Returns the KL in nats between the events that a span is written and that it is not, of log-likelihoods."""

    def events(log_likelihood: Float[Array, "*n"]) -> Float[Array, "*n 2"]:
        x = jnp.minimum(log_likelihood / temperature, CERTAIN)
        return jnp.stack([x, jnp.log(-jnp.expm1(x))], -1)

    return divergence.kl(events(teacher), events(student))


class ALM(LogitsMethod):
    """`temperature` divides the log-likelihoods of spans of several tokens; the teacher is a source `respelled`."""

    temperature: Scalar = 1.0
    same_classes = False
    zero_at_teacher = True
    listed_forms = (RespelledLogits, TopK)

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)

    def valid(self, batch: Batch) -> Num[Array, "*m"]:
        if not spans.has_spans(batch):
            return super().valid(batch)
        aligned = spans.align(batch)
        return (aligned.is_single | aligned.is_last).astype(jnp.float32)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        def token_kl(student: Array, teacher: Array | TopK) -> Array:
            if isinstance(teacher, TopK):
                return topk.kl(teacher, student)
            return divergence.kl(precise(teacher), precise(student))

        if not spans.has_spans(batch):
            return self.compare(token_kl, student, teacher, batch=batch)
        if "span_log_prob" not in teacher.taps:
            raise UserError(
                "teacher must be a network of source 'respelled' for texts with spans, got one without the tap"
                " 'span_log_prob'. Name one whose `of` is the teacher"
            )
        aligned = spans.align(batch)

        def loss(student: Array, teacher: Array | TopK, label: Array) -> tuple[Array, Array]:
            return token_kl(student, teacher), spans.log_likelihood(precise(student), label)

        self._check_forms(student, teacher)
        kl, log_probs = chunked.compare(loss, student.logits, teacher.logits, batch["label"], chunk=self.chunk)
        size = max(batch[spans.SPAN].shape[1], batch[spans.TEACHER_SPAN].shape[1])
        sums = spans.spread(spans.total(log_probs, aligned.number, size), aligned.number)
        of_spans = alm(sums, teacher.tap("span_log_prob"), self.temperature)
        return jnp.where(aligned.is_single, kl, jnp.where(aligned.is_last, of_spans, 0.0))
