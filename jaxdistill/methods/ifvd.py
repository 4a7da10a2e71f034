"""Intra-class feature variation: pixels differ from the mean of their class as the teacher's do.

Wang, Zhou, Jiang, Bai, Xu, "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020,
https://www.ecva.net/papers/eccv_2020/papers_ECCV/html/230_ECCV_2020_paper.php

    loss = mean_i (cos(f_s,i, m_s,y(i)) - cos(f_t,i, m_t,y(i)))^2,    m_k = mean of f_i over the pixels of class k

one value per image, whose own class means they are. Labels are brought to the size of the map, by the nearest. Pixels
without a label belong to no class and do not count; nor does an image that has none. Widths need not agree; the larger
map is averaged to the size of the smaller. The authors' weight is 200, beside SKD's pixel-wise and adversarial parts;
their map is the last before the classifier.

Elsewhere: the authors' code gives pixels without a label the variation 1 on both sides, so that they add nothing and
count; TorchDistiller agrees with that.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.losses import distance, regions, spatial
from jaxdistill.modules import adapters, layer_mapping


def variation(x: jax.Array, inside: jax.Array) -> jax.Array:
    """The cosine of each pixel with the mean of its class: `[batch, height, width]`; 0 where it has none.

    Args:
        x: `[batch, height, width, channels]`.
        inside: `[batch, height, width, classes]`, 1 for the pixel's class.
    """
    means, _ = regions.class_means(x, inside)
    own = jnp.einsum("bhwk,bkc->bhwc", inside.astype(x.dtype), means, precision="highest")
    return distance.cosine(x, own)


def ifvd(student: jax.Array, teacher: jax.Array, label: jax.Array, classes: int) -> jax.Array:
    """Returns `[batch]`, the mean over labelled pixels, for two `[batch, height, width, ...]` and their labels."""
    inside = regions.members(label, classes)
    squares = (variation(student, inside) - variation(teacher, inside)) ** 2
    return jnp.sum(squares, (1, 2)) / jnp.maximum(jnp.sum(label >= 0, (1, 2)), 1)


class IFVD(Method):
    """`layers` are maps of features."""

    layers: str = "stage3"
    same_classes = False
    needs_labels = True
    zero_at_teacher = True
    domain = "dense"

    def valid(self, batch):
        return batch["mask"] * jnp.any(batch["label"] >= 0, (1, 2))

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            own, other = spatial.to_smaller(adapters.to_grid(own), adapters.to_grid(other))
            label = spatial.resize(batch["label"], own.shape[1:3], "nearest")
            return ifvd(own, other, label, student.logits.shape[-1])

        return layer_mapping.over(self, student, teacher, loss)
