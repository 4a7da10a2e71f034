"""Intra-class feature variation distillation (IFVD).

Wang, Zhou, Jiang, Bai, Xu, "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020,
https://www.ecva.net/papers/eccv_2020/papers_ECCV/html/230_ECCV_2020_paper.php

    loss = mean_i (cos(f_s,i, m_s,y(i)) - cos(f_t,i, m_t,y(i)))^2,    m_k = mean of f_i over the pixels of class k

the variation of pixels around the mean of their class matches. There is one value per image, by the class means of that
image. Labels are resized to the map by nearest neighbour. Void pixels and pixels without a label belong to no class and
do not count; nor does an image without any label. Widths may differ; the larger map is averaged to the size of the
smaller. The authors' weight is 200, beside SKD's pixel-wise and adversarial parts; their map is the last before the
classifier.

Elsewhere: the authors' code gives pixels without a label the variation 1 on both sides, so that they add nothing but
count; TorchDistiller agrees with that.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdistill.core import Batch, Method, Output
from jaxdistill.losses import distance, regions, spatial
from jaxdistill.modules import adapters, layer_mapping


def variation(
    x: Float[Array, "batch height width channels"], inside: Float[Array, "batch height width classes"]
) -> Float[Array, "batch height width"]:
    """Returns the cosine of each pixel with the mean of its class, 0 without a class.

    Args:
        x: a feature map.
        inside: 1 for the pixel's class.
    """
    means, _ = regions.class_means(x, inside)
    pixel_means = jnp.einsum("bhwk,bkc->bhwc", inside.astype(x.dtype), means, precision="highest")
    return distance.cosine(x, pixel_means)


def ifvd(
    student: Float[Array, "batch height width _"],
    teacher: Float[Array, "batch height width _"],
    label: Int[Array, "batch height width"],
    classes: int,
) -> Float[Array, " batch"]:
    """Returns the mean squared difference of the variations over labelled pixels."""
    inside = regions.one_hot(label, classes)
    squares = (variation(student, inside) - variation(teacher, inside)) ** 2
    return jnp.sum(squares, (1, 2)) / jnp.maximum(jnp.sum(label >= 0, (1, 2)), 1)


class IFVD(Method):
    """`layers` are maps of features."""

    layers: str = "stage3"
    same_classes = False
    needs_labels = True
    zero_at_teacher = True

    def valid(self, batch: Batch) -> Float[Array, " batch"]:
        label = regions.pixel_labels(batch, batch["label"].shape[1:3])
        return batch["mask"] * jnp.any(label >= 0, (1, 2))

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            student_map, teacher_map = spatial.to_smaller(adapters.to_grid(student_map), adapters.to_grid(teacher_map))
            label = regions.pixel_labels(batch, student_map.shape[1:3])
            return ifvd(student_map, teacher_map, label, student.logits.shape[-1])

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
