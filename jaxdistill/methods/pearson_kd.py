"""PKD by Pearson correlation: each channel of a map varies as the teacher's does, however large or shifted.

Cao, Zhang, Gao, Cheng, Cheng, Zhang, "PKD: General Distillation Framework for Object Detectors via Pearson Correlation
Coefficient", NeurIPS 2022, https://arxiv.org/abs/2207.02039

    loss = 1/2 mean over elements of (norm(s) - norm(t))^2,    norm(x_c) = (x_c - mean(x_c)) / (std(x_c) + eps)

added over the pairs of layers. The mean and the standard deviation of a channel are over all places of all examples,
the second with n - 1 below, so that the loss is (n - 1) / n (1 - r), averaged over channels, with r the correlation of
the n values of a channel: 1 - r in the paper. An example's value is its own places' share. A constant channel is 0.

The student's map is brought to the size of the teacher's. The paper's maps are those of a feature pyramid, with as many
channels on both sides: where the widths differ, a 1 x 1 convolution gives the student the teacher's.

Elsewhere: MMRazor has the authors' code, and agrees; it can bring the teacher's map to the student's size instead. The
"PKD" of BERT is another method, `patient_kd`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping

EPS = 1e-6


def standardize(x: jax.Array, mask: jax.Array, eps: float = EPS) -> jax.Array:
    """Subtracts each channel's mean and divides by its standard deviation (n - 1) plus `eps`.

    Args:
        x: `[batch, height, width, channels]`.
        mask: `[batch]`, the examples that count; the others become 0.
    """
    counts = (mask > 0).reshape(-1, 1, 1, 1)
    number = jnp.maximum(jnp.sum(counts) * (x.shape[1] * x.shape[2]), 1).astype(x.dtype)
    mean = jnp.sum(jnp.where(counts, x, 0.0), (0, 1, 2), keepdims=True) / number
    centred = jnp.where(counts, x - mean, 0.0)
    root = jnp.sqrt(number - 1)
    return root * distance.normalize(centred, (0, 1, 2), eps * root)


def pearson_kd(student: jax.Array, teacher: jax.Array, mask: jax.Array, eps: float = EPS) -> jax.Array:
    """Returns `[batch]`, each example's share, for two `[batch, height, width, channels]` of one shape."""
    return distance.mean_squared(standardize(student, mask, eps), standardize(teacher, mask, eps)) / 2


class PearsonKD(Method):
    """`layers` are maps of features."""

    layers: str = "stage1,stage2,stage3"
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True
    domain = "dense"

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            own, other = adapters.to_grid(own), adapters.to_grid(other)
            own = adapters.fit(own, other.shape[1:3])
            own = own if own.shape == other.shape else adapters.match(own, other, name)
            return pearson_kd(own, other, batch["mask"])

        return layer_mapping.over(self, student, teacher, loss)
