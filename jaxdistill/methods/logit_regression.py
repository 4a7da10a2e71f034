"""Logit regression: the student's logits are the teacher's, by least squares.

Ba, Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014, https://arxiv.org/abs/1312.6184

    loss = 1/2 sum_k (z_s,k - z_t,k)^2 / T^2

T is 1 in the paper. Softmax does not see a shift of all logits and this loss does; `centred` takes each example's mean
over the classes off both, which makes it the limit of K KD as T grows (Hinton et al. 2015, section 2.1), K the number
of classes. The paper also tries targets standardised over the training set, and finds little difference.

Elsewhere: KD-Zoo and TextBrewer (`kd_mse`) take the mean over the classes and no half, so theirs is smaller by K / 2;
TextBrewer divides both logits by T.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, precise
from jaxdistill.errors import check_positive


def centre(logits: jax.Array) -> jax.Array:
    """Takes the mean over the last axis off, in at least float32."""
    logits = precise(logits)
    return logits - jnp.mean(logits, -1, keepdims=True)


def logit_regression(student: jax.Array, teacher: jax.Array, temperature: float = 1.0) -> jax.Array:
    """Returns `[*n]` for logits `[*n, classes]`: half the sum of the squares, over T^2."""
    return jnp.sum(((precise(student) - precise(teacher)) / temperature) ** 2, -1) / 2


class LogitRegression(Method):
    """`temperature` divides both logits; `centred` takes their means over the classes off."""

    temperature: float = 1.0
    centred: bool = False
    zero_at_teacher = True

    def check(self):
        check_positive("temperature", self.temperature)

    def __call__(self, student, teacher, batch):
        own, other = student.logits, teacher.logits
        if self.centred:
            own, other = centre(own), centre(other)
        return logit_regression(own, other, self.temperature)
