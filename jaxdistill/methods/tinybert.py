"""TinyBERT: Transformer distillation.

Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", Findings of EMNLP 2020,
https://arxiv.org/abs/1909.10351

    loss = MSE(E^s W, E^t) + sum_(i, j) [ MSE(H^s_i W, H^t_j) + 1/heads sum_h MSE(A^s_ih, A^t_jh) ]    "intermediate"
    loss = - sum_k softmax(z_t / T)_k log softmax(z_s / T)_k                                         "prediction"

E are embeddings, H hidden states and A attention scores before the softmax; layer i of n learns from layer i N / n of
the teacher's N. One value per example, means over its own tokens and pairs of tokens: padding does not count. The paper
trains "intermediate" first, then "prediction", here two stages of a config. T = 1. Student and teacher have equal
numbers of heads.

Elsewhere: the paper has a map for embeddings and one for hidden states; the authors' code has one linear map W for all,
as here, created only if the widths differ. That code averages over padding too, with scores of -100 and less as 0, and
its prediction loss over classes too, which is smaller by their number. TextBrewer's `attention_mse` without a mask
treats all scores of -0.001 and less as padding.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar, precise
from jaxdistill.errors import UserError, check_least, check_positive, unknown
from jaxdistill.losses import attention, chunked, divergence, token
from jaxdistill.modules import layer_mapping

STAGES = ("intermediate", "prediction")


def prediction(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], temperature: Scalar
) -> Float[Array, "*n"]:
    """Returns the soft cross-entropy of equation 10 in nats; no T^2, as in the paper."""
    return divergence.cross_entropy(jax.nn.softmax(precise(teacher) / temperature), precise(student) / temperature)


class TinyBERT(Method):
    """`stage` is "intermediate" or "prediction"; `layers` pairs the blocks, `embeddings` is a tap of both.

    `chunk` is the number of predictions compared at a time, 0 for all at once (`losses/chunked.py`).
    """

    stage: str = "intermediate"
    layers: str = "uniform:block*"
    embeddings: str = "embed"
    temperature: Scalar = 1.0
    chunk: int = 0

    @property
    def same_classes(self) -> bool:
        return self.stage == "prediction"

    @property
    def zero_at_teacher(self) -> bool:
        return self.stage == "intermediate"

    def check(self) -> None:
        if self.stage not in STAGES:
            raise unknown("stage", self.stage, STAGES, "a stage of TinyBERT")
        check_positive("temperature", self.temperature)
        check_least("chunk", self.chunk, 0)
        attention.check_layers(self.layers)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        is_token = token.token_positions(batch)
        if self.stage == "prediction":

            def loss(student_logits: Array, teacher_logits: Array) -> Array:
                return prediction(student_logits, teacher_logits, self.temperature)

            values = chunked.compare(loss, student.logits, teacher.logits, chunk=self.chunk)
            return token.mean(values, is_token) if values.ndim == 2 else values
        pairs = layer_mapping.pairs(self.layers, student.taps, teacher.taps)
        embeddings = student.tap(self.embeddings), teacher.tap(self.embeddings)
        difference = _make_difference(*embeddings)
        total = token.mean(difference(*embeddings), is_token)
        for names in pairs:
            sides = list(zip((student, teacher), names, strict=True))
            scores = [precise(output.tap(f"{name}/scores")) for output, name in sides]
            states = difference(*(output.tap(name) for output, name in sides))
            total = total + token.mean(states + attention.squared(*scores, is_token), is_token)
        return total


def _make_difference(student: Array, teacher: Array) -> Callable[[Array, Array], Array]:
    """Returns the squared difference of states after one linear map, which exists if the widths differ."""
    widths = student.shape[-1], teacher.shape[-1]
    dense = nn.Dense(widths[1], name="fit") if widths[0] != widths[1] else lambda x: x

    def difference(student_states: Array, teacher_states: Array) -> Array:
        if (student_states.shape[-1], teacher_states.shape[-1]) != widths:
            raise UserError(
                f"hidden states must be as wide as the embeddings, {widths[0]} and the teacher's {widths[1]}, as"
                f" one map serves both, got {student_states.shape[-1]} and {teacher_states.shape[-1]}; use equal taps"
            )
        return token.squared(dense(precise(student_states)), precise(teacher_states))

    return difference
