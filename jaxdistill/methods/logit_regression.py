"""Logit regression.

Ba, Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014, https://arxiv.org/abs/1312.6184

    loss = 1/2 sum_k (z_s,k - z_t,k)^2 / T^2

T is 1 in the paper. Softmax is unchanged by a shift of all logits and this loss is not; `centred` subtracts each
prediction's mean over the classes from both, which makes it the limit of K KD as T grows (Hinton et al. 2015, section
2.1), K the number of classes. The paper also tries targets standardised over the training set, and finds little
difference.

Elsewhere: KD-Zoo and TextBrewer (`kd_mse`) take the mean over the classes and no half, so theirs is smaller by K / 2;
TextBrewer divides both logits by T.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_positive
from jaxdistill.modules.logits_method import LogitsMethod


def centre(logits: Float[Array, "*n classes"]) -> Float[Array, "*n classes"]:
    """Subtracts the mean over the classes above -inf, in at least float32."""
    logits = precise(logits)
    return logits - jnp.mean(logits, -1, keepdims=True, where=logits != -jnp.inf)


def logit_regression(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], temperature: Scalar = 1.0
) -> Float[Array, "*n"]:
    """Returns half the sum of the squared differences, over T^2; classes of -inf on both sides differ by 0."""
    student, teacher = precise(student), precise(teacher)
    is_ruled_out = (student == -jnp.inf) & (teacher == -jnp.inf)
    student, teacher = (jnp.where(is_ruled_out, 0.0, logits) for logits in (student, teacher))
    return jnp.sum(((student - teacher) / temperature) ** 2, -1) / 2


class LogitRegression(LogitsMethod):
    """`temperature` divides both logits; `centred` subtracts their means over the classes."""

    temperature: Scalar = 1.0
    centred: bool = False
    zero_at_teacher = True
    predictions = ("classes", "labels", "gaussian", "quantiles")

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        def loss(student: Array, teacher: Array) -> Array:
            if self.centred:
                student, teacher = centre(student), centre(teacher)
            return logit_regression(student, teacher, self.temperature)

        return self.compare(loss, student, teacher, batch=batch)
