"""Supervised training of a detector (FCOS).

Tian, Shen, Chen, He, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019,
https://arxiv.org/abs/1904.01355

    loss = (sum_x focal(z_x, c_x) + sum_{x in pos} box (1 - GIoU(b_x, b*_x)) + centerness BCE(o_x, o*_x)) / N_pos

The locations x of all levels are assigned to boxes by centre sampling and by a range of sizes for each level
(`losses/boxes.py`); the assigned ones are positive, N_pos is their number, and the class of all others is none. The
centre-ness o* is sqrt(min(l, r) / max(l, r) min(t, b) / max(t, b)) of the distances to the edges. Padding and regions
of crowds are no targets; a location in a crowd is background. A network whose distances are distributions (`bins`)
also learns the two bins beside the true distance, y <= d < y + 1 (distribution focal loss, Li et al., "Generalized
Focal Loss", NeurIPS 2020, https://arxiv.org/abs/2006.04388, equation 6; its weight of 0.25 is `distribution`):

    loss += distribution mean_edges -((y + 1 - d) log p_y + (d - y) log p_(y + 1)) / N_pos

N_pos is that of the image by default, at least 1, so that a value is of its image alone: micro-batches add up, and each
image has the same weight. With `normalizer="batch"` it is that of the batch, as in the paper, and each box has the same
weight; accumulation is refused.

Elsewhere: torchvision and the authors' code divide by the positives of the batch of one device, or of all; here
"batch" is the batch of all devices. torchvision has GIoU and the three terms with weights of 1, as here; the authors'
later code weights GIoU by the centre-ness, and Generalized Focal Loss has other terms beside the distributions.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar, dense, precise
from jaxdistill.errors import check_fraction, check_least, check_positive, unknown
from jaxdistill.losses import boxes, focal

NORMALIZERS = ("image", "batch")


def two_bins(edges: Float[Array, "*n bins"], distances: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the cross-entropy of the two bins beside each distance, weighted by nearness.

    Args:
        edges: logits of the distances 0, 1, ...
        distances: true ones; one outside of the bins is that of the nearest bin.
    """
    last = edges.shape[-1] - 1
    distances = jnp.clip(distances, 0, last)
    bins = jnp.arange(last + 1.0).reshape(*[1] * distances.ndim, -1)
    nearness = jax.nn.relu(1 - jnp.abs(distances[..., None] - bins))
    return -jnp.sum(nearness * jax.nn.log_softmax(edges), -1)


def fcos(output: Output, batch: Batch, settings: "FCOS") -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Returns the sum of the losses of each image, and the number of its positive locations.

    Args:
        output: logits `[batch, locations, classes]`, and the taps of a detector (`models/fcos.py`).
        batch: `boxes` `[batch, boxes, 4]` and `label` `[batch, boxes]`, -1 for a box that is no target.
        settings: of the losses.
    """
    targets = jax.lax.stop_gradient(precise(batch["boxes"]))
    locations = jax.lax.stop_gradient(precise(output.tap("locations")))
    is_target = batch["label"] >= 0
    index, assigned = boxes.assign_batch(locations, targets, is_target, radius=settings.radius, reach=settings.reach)
    positive = index >= 0
    label = jnp.where(positive, jnp.take_along_axis(batch["label"], jnp.maximum(index, 0), 1), -1)
    logits = precise(dense(output.logits))
    is_class = label[..., None] == jnp.arange(logits.shape[-1])[None, None]
    loss = jnp.sum(focal.sigmoid_focal(logits, is_class, settings.alpha, settings.gamma), -1)
    true = boxes.distances(locations, assigned)
    center = boxes.centerness(true)
    parts = settings.box * (1 - boxes.giou(precise(output.tap("boxes")), assigned))
    parts += settings.centerness * optax.sigmoid_binary_cross_entropy(precise(output.tap("centerness")), center)
    if "edges" in output.taps:
        parts += settings.distribution * jnp.mean(two_bins(precise(output.tap("edges")), true), -1)
    loss += jnp.where(positive, parts, 0.0)
    return jnp.sum(loss, -1), jnp.sum(positive, -1).astype(loss.dtype)


class FCOS(Method):
    """`radius` and `reach` assign locations; `alpha` and `gamma` are of the focal loss; the others are weights."""

    radius: Scalar = boxes.RADIUS
    reach: Scalar = boxes.REACH
    alpha: Scalar = 0.25
    gamma: Scalar = 2.0
    box: Scalar = 1.0
    centerness: Scalar = 1.0
    distribution: Scalar = 0.25
    normalizer: str = "image"
    needs_teacher = False
    needs_labels = True
    predictions = ("boxes",)

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the normaliser is that of the batch."""
        return self.normalizer == "batch"

    def check(self) -> None:
        check_positive("radius", self.radius)
        check_positive("reach", self.reach)
        check_fraction("alpha", self.alpha)
        for name in ("gamma", "box", "centerness", "distribution"):
            check_least(name, getattr(self, name), 0)
        if self.normalizer not in NORMALIZERS:
            raise unknown("normalizer", self.normalizer, NORMALIZERS)

    def __call__(self, student: Output, teacher: Output | None, batch: Batch) -> Float[Array, " batch"]:
        loss, count = fcos(student, batch, self)
        if self.normalizer == "image":
            return loss / jnp.maximum(count, 1)
        is_real = batch["mask"] > 0
        positives = jnp.sum(jnp.where(is_real, count, 0.0))
        return loss * jnp.sum(is_real) / jnp.maximum(positives, 1)
