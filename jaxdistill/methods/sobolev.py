"""Sobolev training.

Czarnecki, Osindero, Jaderberg, Świrszcz, Pascanu, "Sobolev Training for Neural Networks", NIPS 2017,
https://arxiv.org/abs/1706.04859.

    loss = mean_j || (J_s - J_t) v_j ||^2,    J = d logits / d input,  v_j random, of length 1

summed over the classes: the derivatives of the logits along random directions, the same for both sides, match. One
value per example, in logits squared per input squared. Since v is uniform on the sphere of d dimensions, d times the
loss is in expectation the squared Frobenius norm of J_s - J_t. It is used beside a term that matches the values. The
derivatives are the tap `derivative` of two networks of source "derivative", with mode="jvp" (exact) or "difference"
(central differences, without second derivatives).

Elsewhere: KD-Zoo's file of this name matches normalised gradients of one logit, which is `jacobian` here. The paper
projects the Jacobian on random vectors of the output; here the vectors are directions of the input, whose products need
one forward pass each and can be finite differences.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import UserError
from jaxdistill.modules import layer_mapping


def sobolev(
    student: Float[Array, " batch *student_shape"], teacher: Float[Array, " batch *teacher_shape"]
) -> Float[Array, " batch"]:
    """Compares derivatives along directions, `[batch, directions, classes]`; raises `UserError` for others."""
    if student.ndim != 3 or student.shape != teacher.shape:
        raise UserError(
            "derivatives along directions must be [batch, directions, classes] on both sides, got"
            f" {list(student.shape)} and {list(teacher.shape)}; use two derivative networks with mode='jvp' or"
            " mode='difference'"
        )
    return jnp.mean(jnp.sum((student - teacher) ** 2, -1), -1)


class Sobolev(Method):
    """`layers` are taps of derivatives."""

    layers: str = "derivative"
    zero_at_teacher = True

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        return layer_mapping.sum_over_pairs(self, student, teacher, lambda s, t, name: sobolev(s, t))
