"""Hard-label distillation: the class that the teacher finds likeliest is the label.

Touvron, Cord, Douze, Massa, Sablayrolles, Jégou, "Training data-efficient image transformers & distillation through
attention" (DeiT), ICML 2021, https://arxiv.org/abs/2012.12877

    loss = - log softmax(z_s)_k,    k = argmax z_t

The paper takes half of this and half of the cross-entropy with the labels, as weights of the terms, and does not smooth
the teacher's labels; it reads this term off a head of its own, behind the distillation token.

Elsewhere: DeiT agrees; big_vision's `hard` smooths over the other classes alone and subtracts the target's entropy.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import check_fraction
from jaxdistill.methods.cross_entropy import cross_entropy


def hard_label(student: jax.Array, teacher: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, classes]`."""
    return cross_entropy(student, jnp.argmax(teacher, -1), label_smoothing)


class HardLabel(Method):
    """`label_smoothing` is the share of the target that is spread over all the classes."""

    label_smoothing: float = 0.0

    def check(self):
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(self, student, teacher, batch):
        return hard_label(student.logits, teacher.logits, self.label_smoothing)
