"""DistilBERT: soft targets at every token, the masked language model, and hidden states that point the same way.

Sanh, Debut, Chaumond, Wolf, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", NeurIPS
2019 workshop, https://arxiv.org/abs/1910.01108

    loss = 5 mean_n T^2 KL(softmax(z_t / T) || softmax(z_s / T)) + 2 mean_m CE(y, z_s) + 1 mean_n [1 - cos(h_s, h_t)]

n runs over all tokens and m over the masked ones, those with a label; h is the last hidden state. Each mean is over its
own set of tokens, so a masked token's share depends on how many the whole batch has. The paper names the three terms;
the weights, T = 2 and that the soft targets are not only the masked tokens' (`restrict_to_masked`) are those of the
authors' command line. Widths are equal in the paper; where they differ a learned linear map brings the student's to the
teacher's.

Elsewhere: the authors' code agrees. With micro-batches it averages the means of each, which weighs masked tokens of
micro-batches with few of them more.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import chunked, divergence, token
from jaxdistill.methods.kd import kd
from jaxdistill.modules import adapters, layer_mapping


def share(chosen: jax.Array, counted: jax.Array) -> jax.Array:
    """Returns factors under which a mean over `counted` tokens becomes one over the `chosen` of them.

    Args:
        chosen: float `[batch, length]`, a part of `counted`.
        counted: float `[batch, length]`.
    """
    return chosen * jnp.sum(counted) / jnp.maximum(jnp.sum(chosen), 1.0)


def labels(student: jax.Array, _: None, label: jax.Array) -> jax.Array:
    """Returns the cross-entropy with masked tokens, `[*n]` nats, 0 where `label` is -1; logits `[*n, vocabulary]`."""
    likely = jnp.take_along_axis(divergence.log_probabilities(student), jnp.maximum(label, 0)[..., None], -1)[..., 0]
    return jnp.where(label >= 0, -likely, 0.0)


class DistilBERT(Method):
    """`temperature` of the soft targets, the weights of the three terms, and which tokens' targets are soft.

    `chunk` is how many tokens' logits are compared at a time, 0 for all at once (`losses/chunked.py`).

    Where neither labels nor `restrict_to_masked` are used, a batch may be split into micro-batches.
    """

    temperature: float = 2.0
    soft_weight: float = 5.0
    label_weight: float = 2.0
    cosine_weight: float = 1.0
    restrict_to_masked: bool = False
    layers: str = "final"
    chunk: int = 0
    domain = "encoder"

    @property
    def needs_labels(self):
        # A weight that a schedule moves is no number here; it counts as used.
        return self.restrict_to_masked or not (isinstance(self.label_weight, float | int) and self.label_weight == 0)

    @property
    def needs_whole_batch(self):
        return self.needs_labels

    def check(self):
        check_positive("temperature", self.temperature)
        for name in ("soft_weight", "label_weight", "cosine_weight"):
            check_least(name, getattr(self, name), 0)
        check_least("chunk", self.chunk, 0)

    def valid(self, batch):
        return token.counted(batch)

    @nn.compact
    def __call__(self, student, teacher, batch):
        def cosine(own, target, name):
            own = own if own.shape == target.shape else adapters.match(own, target, name)
            return token.cosine(own, target)

        def softened(own, target):
            return kd(own, target, self.temperature)

        soft = chunked.compare(softened, student.logits, teacher.logits, chunk=self.chunk)
        values = self.cosine_weight * layer_mapping.over(self, student, teacher, cosine)
        if not self.needs_labels:
            return values + self.soft_weight * soft
        counted = token.counted(batch).astype(values.dtype)
        masked = share(counted * (batch["label"] >= 0), counted)
        soft = masked * soft if self.restrict_to_masked else soft
        hard = masked * chunked.compare(labels, student.logits, None, batch["label"], chunk=self.chunk)
        return values + self.soft_weight * soft + self.label_weight * hard
