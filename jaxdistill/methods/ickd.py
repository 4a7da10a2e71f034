"""Inter-channel correlation knowledge distillation (ICKD).

Liu, Huang, Lin, Xie, Wang, Chang, Liang, "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge
Distillation", ICCV 2021, https://arxiv.org/abs/2202.03680

    loss = 1 / C sum_cd (G_s / ||G_s|| - G_t / ||G_t||)^2_cd,    G = F F^T

for an example's map F, C channels by places: the correlations between channels match. Each row has its own norm. The
paper's equation divides by C^2 and does not normalise; this is the authors' code, and its weight of 2.5 goes with it. C
is the teacher's: a learned 1 x 1 convolution without bias, and batch normalisation with `norm`, map the student's
channels to it, even if they are equal. Sizes may differ.

Elsewhere: torchdistill divides by the batch once more.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping


def correlations(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch channels channels"]:
    """Returns G with rows of norm 1, or 0."""
    return distance.normalize(jnp.einsum("bhwc,bhwd->bcd", x, x, precision="highest"))


def ickd(
    student: Float[Array, "batch _ _ channels"], teacher: Float[Array, "batch _ _ channels"]
) -> Float[Array, " batch"]:
    """Compares the correlations of the channels of two maps."""
    return jnp.sum((correlations(student) - correlations(teacher)) ** 2, (1, 2)) / teacher.shape[3]


class ICKD(Method):
    """`layers` names the maps; `norm` adds batch normalisation after the adapter."""

    layers: str = "stage3"
    norm: bool = True
    same_classes = False

    @property
    def needs_whole_batch(self) -> bool:
        return self.norm

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            student_map, teacher_map = adapters.to_grid(student_map), adapters.to_grid(teacher_map)
            student_map = adapters.conv(teacher_map.shape[3], 1, name=name, bias=False)(student_map)
            if self.norm:
                student_map = adapters.norm(student_map, batch["mask"], name=f"{name}_norm")
            return ickd(student_map, teacher_map)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
