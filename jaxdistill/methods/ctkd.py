"""Curriculum temperature for knowledge distillation.

Li, Li, Yang, Zhao, Song, Luo, Li, Yang, "Curriculum Temperature for Knowledge Distillation", AAAI 2023,
https://arxiv.org/abs/2211.16231

    loss = T^2 KL(softmax(z_t / T) || softmax(z_s / T)),    T = start + span s(w),  dw = - r dloss/dw

s is the sigmoid and w one learned number, 1 at first: the paper's global temperature, from 1 to 21. The student
descends the loss and w, by a reversed gradient, climbs it. In the paper the reversal r grows from 0 to 1 in the first
10 epochs, along a cosine: `progress` is the fraction of this curriculum that is over, by default all, and a schedule of
the field is the curriculum, `progress=dict(to=1.0, over_epochs=10)`. The paper's instance-wise temperature, a small
network over both logits, is not here.

Elsewhere: the authors' layer multiplies by a factor that their schedule makes negative; its line stops an epoch before
its end.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar
from jaxdistill.errors import check_between, check_least, check_positive, unknown
from jaxdistill.methods.kd import kd
from jaxdistill.modules.logits_method import LogitsMethod

SHAPES = ("cosine", "linear")


@jax.custom_vjp
def reverse(x: Scalar, strength: Scalar) -> Scalar:
    """Returns `x`; its gradient is multiplied by `-strength`."""
    return x


def _forward(x: Scalar, strength: Scalar) -> tuple[Scalar, Scalar]:
    return x, strength


def _backward(strength: Scalar, gradient: jax.Array) -> tuple[jax.Array, None]:
    return (-strength * gradient).astype(gradient.dtype), None


reverse.defvjp(_forward, _backward)


def curriculum(progress: Scalar, shape: str) -> Float[Array, "*n"]:
    """Returns the strength of the reversal, 0 to 1, while `progress` goes from 0 to 1; later it stays 1.

    Args:
        progress: the fraction of the curriculum that is over, of any shape.
        shape: "cosine" or "linear".
    """
    progress = jnp.clip(progress, 0.0, 1.0)
    return (1 - jnp.cos(jnp.pi * progress)) / 2 if shape == "cosine" else progress


def temperature(raw: Float[Array, "*n"], start: float, span: float) -> Float[Array, "*n"]:
    """Returns `start + span * sigmoid(raw)`."""
    return start + span * jax.nn.sigmoid(raw)


class CTKD(LogitsMethod):
    """The temperature lies between `start` and `start + span`; `progress` and `shape` are the curriculum's."""

    start: Scalar = 1.0
    span: Scalar = 20.0
    progress: Scalar = 1.0
    shape: str = "cosine"
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_positive("start", self.start)
        check_least("span", self.span, 0)
        check_between("progress", self.progress, 0, 1)
        if self.shape not in SHAPES:
            raise unknown("shape of a curriculum", self.shape, SHAPES)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        raw = reverse(self.param("temperature", nn.initializers.ones, ()), curriculum(self.progress, self.shape))
        learned = temperature(raw, self.start, self.span)
        return self.compare(lambda student, teacher: kd(student, teacher, learned), student, teacher, batch=batch)
