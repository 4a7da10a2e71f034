"""Attention transfer (AT).

Zagoruyko, Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks
via Attention Transfer", ICLR 2017, https://arxiv.org/abs/1612.03928

    loss = mean over places of (Q_s / ||Q_s|| - Q_t / ||Q_t||)^2,    Q = mean over channels of |F|^p

added over the pairs of layers: the spatial attention maps Q of student and teacher match. The paper's equation 2 is the
L2 norm of that difference, neither squared nor averaged (`squared=False`); the authors' code is the mean of squares,
and its weight of 1000 goes with it (the paper's beta is per layer, halved). Where the maps are of two sizes, the larger
is averaged to the size of the smaller before p.

Elsewhere: RepDistiller, mdistiller and MMRazor agree with the authors' code; they raise F to the power p without the
absolute value, which is the same for even p. KD-Zoo sums over channels and divides by the norm + 1e-6. torchdistill has
both, named "code" and "paper".
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_least
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping


def attention(
    features: Float[Array, "batch height width channels"], power: Scalar, eps: Scalar = 0.0
) -> Float[Array, "batch places"]:
    """Returns the normalised attention map Q / ||Q||.

    Args:
        features: a feature map.
        power: the exponent p.
        eps: added to the norm; not needed, since a map of zeros stays 0.
    """
    activity = jnp.mean(jnp.abs(features) ** power, -1)
    return distance.normalize(activity.reshape(activity.shape[0], -1), eps=eps)


def attention_transfer(
    student: Float[Array, "batch _ _ _"], teacher: Float[Array, "batch _ _ _"], power: Scalar, squared: bool = True
) -> Float[Array, " batch"]:
    """Compares the attention maps of two feature maps.

    Args:
        student: `[batch, height, width, channels]`.
        teacher: the same, of any size and width.
        power: the exponent p.
        squared: whether to average squares over places, or take the norm of the difference, as in the paper.
    """
    student, teacher = spatial.to_smaller(student, teacher)
    difference = attention(student, power) - attention(teacher, power)
    return jnp.mean(difference**2, -1) if squared else distance.norm(difference)


class AT(Method):
    """`power` is the p of |F|^p; `squared=False` is the paper's norm."""

    layers: str = "stage1,stage2,stage3"
    power: Scalar = 2.0
    squared: bool = True
    same_classes = False
    zero_at_teacher = True

    def check(self) -> None:
        check_least("power", self.power, 1)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            sides = adapters.to_grid(student_map), adapters.to_grid(teacher_map)
            return attention_transfer(*sides, self.power, self.squared)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
