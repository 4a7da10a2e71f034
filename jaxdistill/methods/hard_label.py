"""Hard-label distillation.

Touvron, Cord, Douze, Massa, Sablayrolles, Jégou, "Training data-efficient image transformers & distillation through
attention" (DeiT), ICML 2021, https://arxiv.org/abs/2012.12877

    loss = - log softmax(z_s)_k,    k = argmax z_t

The paper takes half of this and half of the cross-entropy with the labels, as weights of the terms, and does not smooth
the teacher's labels; it reads this term off a head of its own, behind the distillation token.

Elsewhere: DeiT agrees; big_vision's `hard` smooths over the other classes alone and subtracts the target's entropy.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar
from jaxdistill.errors import check_fraction
from jaxdistill.methods.cross_entropy import cross_entropy
from jaxdistill.modules.logits_method import LogitsMethod


def hard_label(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], label_smoothing: Scalar = 0.0
) -> Float[Array, "*n"]:
    """Returns nats."""
    return cross_entropy(student, jnp.argmax(teacher, -1), label_smoothing)


class HardLabel(LogitsMethod):
    """`label_smoothing` is the fraction of the target that is spread over all the classes."""

    label_smoothing: Scalar = 0.0

    def check(self) -> None:
        super().check()
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(lambda s, t: hard_label(s, t, self.label_smoothing), student, teacher, batch=batch)
