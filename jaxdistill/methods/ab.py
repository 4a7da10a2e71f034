"""Activation boundaries: the student's neurons fire where the teacher's do, by a margin.

Heo, Lee, Yun, Choi, "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons", AAAI 2019,
https://arxiv.org/abs/1811.03233

    loss = 3/1000 sum_i 2^(i - n) sum over elements of max(0, m - s)^2 where t > 0, max(0, m + s)^2 where t <= 0

for layers i = 1 .. n before their ReLU: the paper's alternative loss, with the weights and the margin m = 1 of the
authors' code. s is the student's layer through a learned connector, a convolution and batch normalisation. The authors
have none where the widths are equal: set adapter=False there. It is the first of two stages: with this alone the
student is brought to begin where the teacher's boundaries are, and is then trained with labels or KD.

Elsewhere: RepDistiller agrees, and leaves the connector out where the shapes are equal; MMRazor weighs all layers
alike; torchdistill has no 3/1000 and takes the layers' weights from its config; KD-Zoo is the mean over elements.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError, check_least
from jaxdistill.methods.fitnet import regress
from jaxdistill.modules import layer_mapping

SCALE = 3 / 1000
"""The authors' factor, which brings the sum over elements near the size of a cross-entropy."""


def ab(student: jax.Array, teacher: jax.Array, margin: float) -> jax.Array:
    """Returns `[batch]`, summed over elements, for two `[batch, ...]` of one shape, before the activation."""
    short = nn.relu(jnp.where(teacher > 0, margin - student, margin + student))
    return jnp.sum(short**2, tuple(range(1, short.ndim)))


def weights(count: int) -> list[float]:
    """What the layers' values are multiplied by: half as much for each layer further from the last."""
    return [SCALE * 2.0 ** (index - count + 1) for index in range(count)]


class AB(Method):
    """`margin` is m; `layers` are values before a ReLU, the deepest last; `adapter` is the connector."""

    layers: str = "stage1/preact,stage2/preact,stage3/preact"
    margin: float = 1.0
    adapter: bool = True
    same_classes = False

    @property
    def needs_whole_batch(self):
        return self.adapter

    def check(self):
        layer_mapping.check_paired(self.layers)
        check_least("margin", self.margin, 0)

    @nn.compact
    def __call__(self, student, teacher, batch):
        taps = layer_mapping.taps(self.layers, student, teacher)
        total = jnp.zeros(())
        for index, (weight, (own, other)) in enumerate(zip(weights(len(taps)), taps, strict=True)):
            if self.adapter:
                own = regress(own, other, f"connector{index}", batch["mask"], norm=True)
            elif own.shape != other.shape:
                raise UserError(
                    f"layer {index} of {self.layers!r}: the student's {list(own.shape)} and the teacher's"
                    f" {list(other.shape)} are not of one shape; set adapter=True"
                )
            total = total + weight * ab(own, other, self.margin)
        return total
