"""Binary cross-entropy with labels.

Nam, Kim, Loza Mencia, Gurevych, Fuernkranz, "Large-scale Multi-label Text Classification - Revisiting Neural Networks",
ECML PKDD 2014, https://arxiv.org/abs/1312.5419, section 3.2.

    loss = - sum_k [y_k log s(z_k) + (1 - y_k) log(1 - s(z_k))],    s the sigmoid, k the classes whose label is present

Every class is a decision of its own, so that an example may have any number of labels. The sum over the classes has the
size of `multi_label`, which a teacher teaches beside it.

Elsewhere: PyTorch's `BCEWithLogitsLoss` and Keras take the mean over the classes, which is smaller by their number.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import LogitsMethod


def binary_cross_entropy(logits: Float[Array, "*n classes"], labels: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns nats; `labels` are in [0, 1], NaN for a missing one."""
    is_present = ~jnp.isnan(labels)
    values = divergence.binary_cross_entropy(jnp.where(is_present, labels, 0.0), logits)
    return jnp.sum(jnp.where(is_present, values, 0.0), -1)


class BinaryCrossEntropy(LogitsMethod):
    """It learns `labels`, 1 for each class that an example has."""

    needs_teacher = False
    needs_labels = True
    predictions = ("labels",)

    def __call__(self, student: Output, teacher: Output | None, batch: Batch) -> Float[Array, "*n"]:
        def loss(logits: Array, _: None, labels: Array) -> Array:
            return binary_cross_entropy(logits, labels)

        return self.compare(loss, student, None, batch["labels"], batch=batch)
