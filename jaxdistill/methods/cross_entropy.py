"""Cross-entropy with labels: the task term of classification.

Label smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
https://arxiv.org/abs/1512.00567, section 7.

    loss = - sum_k [(1 - eps) y_k + eps / K] log softmax(z)_k

`y` is a class index, or a distribution over the classes, as mixup and cutmix make. Examples without a label
(index -1, or a distribution that is 0 everywhere) do not count.

Elsewhere: agree where there is no smoothing; big_vision spreads it over the other classes alone.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Batch, Method
from jaxdistill.errors import check_fraction
from jaxdistill.losses import divergence


def soft(label: jax.Array, classes: int) -> jax.Array:
    """Writes labels as distributions: int `[*n]` or float `[*n, classes]` to float `[*n, classes]`."""
    return jax.nn.one_hot(label, classes) if jnp.issubdtype(label.dtype, jnp.integer) else label


def labelled(batch: Batch) -> jax.Array:
    """Returns the mask of the predictions that count and have a label, `[*n]` as the labels are."""
    label, mask = batch["label"], batch["mask"]
    known = label >= 0 if jnp.issubdtype(label.dtype, jnp.integer) else jnp.sum(label, -1) > 0
    return known * mask.reshape(mask.shape + (1,) * (known.ndim - mask.ndim))


def cross_entropy(logits: jax.Array, label: jax.Array, label_smoothing: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, classes]` and labels as for `soft`."""
    classes = logits.shape[-1]
    target = (1 - label_smoothing) * soft(label, classes) + label_smoothing / classes
    return divergence.cross_entropy(target, logits)


class CrossEntropy(Method):
    """`label_smoothing` is the share of the target that is spread over all the classes."""

    label_smoothing: float = 0.0
    needs_teacher = False
    needs_labels = True

    def check(self):
        check_fraction("label_smoothing", self.label_smoothing)

    def valid(self, batch):
        return labelled(batch)

    def __call__(self, student, teacher, batch):
        return cross_entropy(student.logits, batch["label"], self.label_smoothing)
