"""TinyBERT: embeddings, attention scores and hidden states of every layer first, then the predictions.

Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", Findings of EMNLP 2020,
https://arxiv.org/abs/1909.10351

    loss = MSE(E^s W, E^t) + sum_(i, j) [ MSE(H^s_i W, H^t_j) + 1/heads sum_h MSE(A^s_ih, A^t_jh) ]    "intermediate"
    loss = - sum_k softmax(z_t / T)_k log softmax(z_s / T)_k                                         "prediction"

E are embeddings, H hidden states and A attention scores before the softmax; layer i of n learns from layer i N / n of
the teacher's N. One value per example, means over its own tokens and pairs of tokens: padding does not count. The two
stages are trained one after the other, each as a stage of its own. T = 1. Student and teacher have as many heads as
each other.

Elsewhere: the paper has a map for embeddings and one for hidden states; the authors' code has ONE linear map W for all,
as here, where it is there only if the widths differ. That code averages over padding too, with scores of -100 and less
as 0, and its prediction loss over classes too, which is smaller by their number. TextBrewer's `attention_mse` without a
mask takes all scores of -0.001 and less for padding.
"""

import flax.linen as nn
import jax

from jaxdistill.core import Method, precise
from jaxdistill.errors import UserError, check_least, check_positive, unknown
from jaxdistill.losses import attention, chunked, divergence, token
from jaxdistill.modules import layer_mapping

STAGES = ("intermediate", "prediction")


def prediction(student: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """The soft cross-entropy, equation 10: `[*n]` nats for logits `[*n, classes]`; no T^2, as in the paper."""
    return divergence.cross_entropy(jax.nn.softmax(precise(teacher) / temperature), precise(student) / temperature)


class TinyBERT(Method):
    """`stage` is "intermediate" or "prediction"; `layers` pairs the blocks, `embeddings` is a tap of both.

    `chunk` is how many predictions are compared at a time, 0 for all at once (`losses/chunked.py`).
    """

    stage: str = "intermediate"
    layers: str = "uniform:block*"
    embeddings: str = "embed"
    temperature: float = 1.0
    chunk: int = 0
    domain = "encoder"

    @property
    def same_classes(self):
        return self.stage == "prediction"

    @property
    def zero_at_teacher(self):
        return self.stage == "intermediate"

    def check(self):
        if self.stage not in STAGES:
            raise unknown("stage of TinyBERT", self.stage, STAGES)
        check_positive("temperature", self.temperature)
        check_least("chunk", self.chunk, 0)
        attention.check_layers(self.layers)

    @nn.compact
    def __call__(self, student, teacher, batch):
        there = token.there(batch)
        if self.stage == "prediction":

            def compared(own, other):
                return prediction(own, other, self.temperature)

            values = chunked.compare(compared, student.logits, teacher.logits, chunk=self.chunk)
            return token.mean(values, there) if values.ndim == 2 else values
        pairs = layer_mapping.pairs(self.layers, student.taps, teacher.taps)
        fit = _shared(student.tap(self.embeddings), teacher.tap(self.embeddings))
        total = token.mean(fit(student.tap(self.embeddings), teacher.tap(self.embeddings)), there)
        for own, other in pairs:
            scores = [precise(output.tap(f"{name}/scores")) for output, name in ((student, own), (teacher, other))]
            states = fit(student.tap(own), teacher.tap(other))
            total = total + token.mean(states + attention.squared(*scores, there), there)
        return total


def _shared(embedding: jax.Array, target: jax.Array):
    """Returns the squared difference of states behind one linear map, which is there where the widths differ."""
    widths = embedding.shape[-1], target.shape[-1]
    dense = nn.Dense(widths[1], name="fit") if widths[0] != widths[1] else lambda x: x

    def compared(own, other):
        if (own.shape[-1], other.shape[-1]) != widths:
            raise UserError(
                f"one map serves embeddings, {widths[0]} wide and the teacher's {widths[1]}, and hidden states, which"
                f" are {own.shape[-1]} and {other.shape[-1]} wide; name taps of one width"
            )
        return token.squared(dense(precise(own)), precise(other))

    return compared
