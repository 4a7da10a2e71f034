"""Sobolev training: the student matches how its teacher's logits change along random directions of the input.

Czarnecki, Osindero, Jaderberg, Świrszcz, Pascanu, "Sobolev Training for Neural Networks", NIPS 2017,
https://arxiv.org/abs/1706.04859.

    loss = mean_j || (J_s - J_t) v_j ||^2,    J = d logits / d input,  v_j random, of length 1

summed over the classes, over directions that teacher and student share: one value per example, logits squared per
input squared. Since v is uniform on the sphere of d dimensions, d times the loss is in expectation the squared
Frobenius norm of J_s - J_t. It adds to a term that matches the values. The derivatives are the tap `derivative` of two
`probe` networks, with how="jvp" (exact) or "difference" (central differences; no second derivative is taken).

Elsewhere: KD-Zoo's file of this name matches normalised gradients of one logit, which is `jacobian` here. The paper
projects the Jacobian on random vectors of the output; we take directions of the input, whose products need one
forward pass each, and which a finite difference can make.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError
from jaxdistill.modules import layer_mapping


def sobolev(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Returns `[batch]` for derivatives `[batch, directions, classes]`; raises `UserError` for others."""
    if student.ndim != 3 or student.shape != teacher.shape:
        raise UserError(
            f"derivatives along directions are [batch, directions, classes] on both sides; these are"
            f" {list(student.shape)} and {list(teacher.shape)}: take two probes with how='jvp' or 'difference'"
        )
    return jnp.mean(jnp.sum((student - teacher) ** 2, -1), -1)


class Sobolev(Method):
    """`layers` are taps of derivatives."""

    layers: str = "derivative"
    zero_at_teacher = True
    domain = "derivative"

    @nn.compact
    def __call__(self, student, teacher, batch):
        return layer_mapping.over(self, student, teacher, lambda s, t, name: sobolev(s, t))
