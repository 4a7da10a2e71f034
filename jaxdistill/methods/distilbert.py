"""DistilBERT: soft targets, masked language modelling and the cosine of hidden states.

Sanh, Debut, Chaumond, Wolf, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", NeurIPS
2019 workshop, https://arxiv.org/abs/1910.01108

    loss = 5 mean_n T^2 KL(softmax(z_t / T) || softmax(z_s / T)) + 2 mean_m CE(y, z_s) + 1 mean_n [1 - cos(h_s, h_t)]

n runs over all tokens and m over the masked ones, those with a label; h is the last hidden state. Each mean is over its
own set of tokens, so a masked token's weight depends on their number in the whole batch. The paper names the three
terms; the weights, T = 2 and soft targets at all tokens, not only the masked ones (`restrict_to_masked`), are those of
the authors' command line. Widths are equal in the paper; if they differ, a learned linear map gives the student the
teacher's.

Elsewhere: the authors' code agrees. With micro-batches it averages the means of each, which gives masked tokens of
micro-batches with few of them more weight.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import chunked, divergence, token
from jaxdistill.methods.kd import kd
from jaxdistill.modules import adapters, layer_mapping


def subset_factors(
    subset: Float[Array, "batch length"], valid: Float[Array, "batch length"]
) -> Float[Array, "batch length"]:
    """Returns factors that turn a mean over the `valid` tokens into one over a `subset` of them."""
    return subset * jnp.sum(valid) / jnp.maximum(jnp.sum(subset), 1.0)


def label_loss(student: Float[Array, "*n vocabulary"], _: None, label: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the cross-entropy with the masked tokens in nats, 0 where `label` is -1."""
    likely = jnp.take_along_axis(divergence.log_probabilities(student), jnp.maximum(label, 0)[..., None], -1)[..., 0]
    return jnp.where(label >= 0, -likely, 0.0)


class DistilBERT(Method):
    """`temperature` of the soft targets and the weights of the three terms.

    `restrict_to_masked` limits the soft targets to masked tokens. `chunk` is the number of tokens compared at a time, 0
    for all at once (`losses/chunked.py`). Without labels and `restrict_to_masked` a batch may be split into
    micro-batches.
    """

    temperature: Scalar = 2.0
    soft_weight: Scalar = 5.0
    label_weight: Scalar = 2.0
    cosine_weight: Scalar = 1.0
    restrict_to_masked: bool = False
    layers: str = "final"
    chunk: int = 0

    @property
    def needs_labels(self) -> bool:
        # A scheduled weight is an array here; it counts as used.
        return self.restrict_to_masked or not (isinstance(self.label_weight, float | int) and self.label_weight == 0)

    @property
    def needs_whole_batch(self) -> bool:
        return self.needs_labels

    def check(self) -> None:
        check_positive("temperature", self.temperature)
        for name in ("soft_weight", "label_weight", "cosine_weight"):
            check_least(name, getattr(self, name), 0)
        check_least("chunk", self.chunk, 0)

    def valid(self, batch: Batch) -> Float[Array, "batch length"]:
        return token.valid_tokens(batch)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "batch length"]:
        def cosine(student_states: Array, teacher_states: Array, name: str) -> Array:
            if student_states.shape != teacher_states.shape:
                student_states = adapters.match(student_states, teacher_states, name)
            return token.cosine(student_states, teacher_states)

        def soft_loss(student_logits: Array, teacher_logits: Array) -> Array:
            return kd(student_logits, teacher_logits, self.temperature)

        soft = chunked.compare(soft_loss, student.logits, teacher.logits, chunk=self.chunk)
        values = self.cosine_weight * layer_mapping.sum_over_pairs(self, student, teacher, cosine)
        if not self.needs_labels:
            return values + self.soft_weight * soft
        valid = token.valid_tokens(batch).astype(values.dtype)
        masked = subset_factors(valid * (batch["label"] >= 0), valid)
        soft = masked * soft if self.restrict_to_masked else soft
        hard = masked * chunked.compare(label_loss, student.logits, None, batch["label"], chunk=self.chunk)
        return values + self.soft_weight * soft + self.label_weight * hard
