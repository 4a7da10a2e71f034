"""Curriculum temperature: a temperature that is learned against the student, more and more so.

Li, Li, Yang, Zhao, Song, Luo, Li, Yang, "Curriculum Temperature for Knowledge Distillation", AAAI 2023,
https://arxiv.org/abs/2211.16231

    loss = T^2 KL(softmax(z_t / T) || softmax(z_s / T)),    T = start + span s(w),  dw = - r dloss/dw

s is the sigmoid and w one learned number, 1 at first: the paper's global temperature, from 1 to 21. The student
descends the loss and w, by a reversed gradient, climbs it. In the paper the reversal r grows from 0 to 1 in the first
10 epochs, along a cosine: `progress` is how much of this curriculum is over, by default all, and a schedule of the
field is the curriculum, `progress=dict(to=1.0, over_epochs=10)`. The paper's instance-wise temperature, a small
network over both logits, is not here.

Elsewhere: the authors' layer multiplies by a factor that their schedule makes negative; its line stops an epoch before
its end.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import check_between, check_least, check_positive, unknown
from jaxdistill.methods.kd import kd

SHAPES = ("cosine", "linear")


@jax.custom_vjp
def reverse(x: jax.Array, strength: jax.Array | float) -> jax.Array:
    """Returns `x`; its gradient is multiplied by `-strength`."""
    return x


def _forward(x, strength):
    return x, strength


def _backward(strength, gradient):
    return (-strength * gradient).astype(gradient.dtype), None


reverse.defvjp(_forward, _backward)


def curriculum(progress: jax.Array | float, shape: str) -> jax.Array:
    """Returns how strong the reversal is, 0 to 1, where `progress` (any shape) goes from 0 to 1; later it stays 1.

    Args:
        progress: the share of the curriculum that is over.
        shape: "cosine" or "linear".
    """
    progress = jnp.clip(progress, 0.0, 1.0)
    return (1 - jnp.cos(jnp.pi * progress)) / 2 if shape == "cosine" else progress


def temperature(raw: jax.Array, start: float, span: float) -> jax.Array:
    """Returns `start + span * sigmoid(raw)`."""
    return start + span * jax.nn.sigmoid(raw)


class CTKD(Method):
    """The temperature lies between `start` and `start + span`; `progress` and `shape` are the curriculum's."""

    start: float = 1.0
    span: float = 20.0
    progress: float = 1.0
    shape: str = "cosine"
    zero_at_teacher = True

    def check(self):
        check_positive("start", self.start)
        check_least("span", self.span, 0)
        check_between("progress", self.progress, 0, 1)
        if self.shape not in SHAPES:
            raise unknown("shape of a curriculum", self.shape, SHAPES)

    @nn.compact
    def __call__(self, student, teacher, batch):
        raw = reverse(self.param("temperature", nn.initializers.ones, ()), curriculum(self.progress, self.shape))
        return kd(student.logits, teacher.logits, temperature(raw, self.start, self.span))
