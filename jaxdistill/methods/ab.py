"""Distillation of activation boundaries (AB).

Heo, Lee, Yun, Choi, "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons", AAAI 2019,
https://arxiv.org/abs/1811.03233

    loss = 3/1000 sum_i 2^(i - n) sum over elements of max(0, m - s)^2 where t > 0, max(0, m + s)^2 where t <= 0

for layers i = 1 .. n before their ReLU: the student's neurons must be active where the teacher's are, by a margin m.
This is the paper's alternative loss, with the weights and the margin of 1 of the authors' code. s is the student's
layer after a learned connector, a convolution and batch normalisation. The authors use none if the widths are equal:
set adapter=False. The paper trains in two stages: this loss alone initialises the student, which is then trained with
labels or KD.

Elsewhere: RepDistiller agrees, and omits the connector if the shapes are equal; MMRazor weighs all layers equally;
torchdistill has no 3/1000 and takes the layers' weights from its config; KD-Zoo takes the mean over elements.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import UserError, check_least
from jaxdistill.methods.fitnet import regress
from jaxdistill.modules import layer_mapping

SCALE = 3 / 1000
"""The authors' factor, which brings the sum over elements near the size of a cross-entropy."""


def ab(
    student: Float[Array, " batch *shape"], teacher: Float[Array, " batch *shape"], margin: Scalar
) -> Float[Array, " batch"]:
    """Sums the squared shortfalls of the margin over the elements of two pre-activations."""
    shortfall = nn.relu(jnp.where(teacher > 0, margin - student, margin + student))
    return jnp.sum(shortfall**2, tuple(range(1, shortfall.ndim)))


def layer_weights(count: int) -> list[float]:
    """Returns the weight of each layer, halved for each layer further from the last."""
    return [SCALE * 2.0 ** (index - count + 1) for index in range(count)]


class AB(Method):
    """`margin` is m; `layers` are taps before a ReLU, the deepest last; `adapter` adds the connector."""

    layers: str = "stage1/preact,stage2/preact,stage3/preact"
    margin: Scalar = 1.0
    adapter: bool = True
    same_classes = False

    @property
    def needs_whole_batch(self) -> bool:
        return self.adapter

    def check(self) -> None:
        layer_mapping.check_paired(self.layers)
        check_least("margin", self.margin, 0)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        taps = layer_mapping.paired_taps(self.layers, student, teacher)
        total = jnp.zeros(())
        pairs = enumerate(zip(layer_weights(len(taps)), taps, strict=True))
        for index, (weight, (student_map, teacher_map)) in pairs:
            if self.adapter:
                student_map = regress(student_map, teacher_map, f"connector{index}", batch["mask"], norm=True)
            elif student_map.shape != teacher_map.shape:
                raise UserError(
                    f"layer {index} of {self.layers!r}: the student's {list(student_map.shape)} and the teacher's"
                    f" {list(teacher_map.shape)} must be of one shape; set adapter=True"
                )
            total = total + weight * ab(student_map, teacher_map, self.margin)
        return total
