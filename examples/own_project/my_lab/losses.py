"""The margin of the teacher: the student's lead of the best class over the mean of all equals the teacher's.

An example, not a published method.

    loss = ((max z_s - mean z_s) - (max z_t - mean z_t))^2

one value per prediction.

Elsewhere: nothing is published under this name.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Batch, Output, precise
from jaxdistill.errors import check_positive
from jaxdistill.modules.logits_method import LogitsMethod


def margin(logits: jax.Array) -> jax.Array:
    """Returns `[*n]` for logits `[*n, classes]`."""
    logits = precise(logits)
    return jnp.max(logits, -1) - jnp.mean(logits, -1)


class Margin(LogitsMethod):
    """`scale` multiplies the square."""

    scale: float = 1.0
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_positive("scale", self.scale)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> jax.Array:
        def loss(student: jax.Array, teacher: jax.Array) -> jax.Array:
            return self.scale * (margin(student) - margin(teacher)) ** 2

        return self.compare(loss, student, teacher, batch=batch)
