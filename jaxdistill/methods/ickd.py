"""Inter-channel correlation: channels that go together in the teacher go together in the student.

Liu, Huang, Lin, Xie, Wang, Chang, Liang, "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge
Distillation", ICCV 2021, https://arxiv.org/abs/2202.03680

    loss = 1 / C sum_cd (G_s / ||G_s|| - G_t / ||G_t||)^2_cd,    G = F F^T

for an example's map F, C channels by places; the norms are each row's. The paper's equation divides by C^2 and does not
normalise; this is the authors' code, and its weight of 2.5 goes with it. C is the teacher's: a learned 1 x 1
convolution without bias, and batch normalisation with `norm`, map the student's channels to it, whether they differ or
not. Sizes may differ.

Elsewhere: torchdistill divides by the batch once more.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping


def correlations(x: jax.Array) -> jax.Array:
    """Returns `[batch, channels, channels]`, rows of norm 1 or 0, for `[batch, height, width, channels]`."""
    return distance.normalize(jnp.einsum("bhwc,bhwd->bcd", x, x, precision="highest"))


def ickd(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Returns `[batch]` for maps `[batch, height, width, channels]` of equal channels."""
    return jnp.sum((correlations(student) - correlations(teacher)) ** 2, (1, 2)) / teacher.shape[3]


class ICKD(Method):
    """`layers` names the maps; `norm` puts batch normalisation behind the adapter."""

    layers: str = "stage3"
    norm: bool = True
    same_classes = False

    @property
    def needs_whole_batch(self):
        return self.norm

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            own, other = adapters.to_grid(own), adapters.to_grid(other)
            own = adapters.conv(other.shape[3], 1, name=name, bias=False)(own)
            if self.norm:
                own = adapters.norm(own, batch["mask"], name=f"{name}_norm")
            return ickd(own, other)

        return layer_mapping.over(self, student, teacher, loss)
