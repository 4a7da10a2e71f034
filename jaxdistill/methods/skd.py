"""Structured knowledge distillation (SKD).

Liu, Chen, Liu, Qin, Luo, Wang, "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019,
https://arxiv.org/abs/1903.04197

    loss = pixel mean_i KL(softmax(z_t,i) || softmax(z_s,i)) + pair mean_ij (cos(f_s,i, f_s,j) - cos(f_t,i, f_t,j))^2

for pixel-wise and pair-wise distillation: one value per image, over its pixels i and over all pairs of nodes i, j of
the feature map. A node is the average of `granularity` x `granularity` places, the paper's beta, whose best is 2 x 2
with all nodes connected; nodes do not overlap, and the last ones of a side that it does not divide are of fewer places.
The paper weights the sum with 10. Its third part, an adversary between the two segmentations
(weight 0.1), is left out: no term here trains a network against another.

Void pixels, where `batch["valid"]` is 0, do not count in the first part. Widths may differ. The student's logits are
resized to the teacher's, the larger map is averaged to the size of the smaller.

Elsewhere: the authors' code has the soft cross-entropy, summed over the batch, for the first part (weight 10) and
max-pools to 2 x 2 nodes for the second (weight 1), without gradients through the norms; CIRKD's copy max-pools 2 x 2
places; TorchDistiller's first part is a mean over classes too, and smaller by their number.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar, precise
from jaxdistill.errors import check_least
from jaxdistill.losses import distance, divergence, regions, spatial
from jaxdistill.modules import adapters, layer_mapping


def pixel_wise(
    student: Float[Array, "batch height width classes"],
    teacher: Float[Array, "batch height width classes"],
    valid: Float[Array, "batch height width"] | None = None,
) -> Float[Array, " batch"]:
    """Returns the mean divergence over the pixels where `valid` is above 0, by default all, in nats."""
    values = divergence.kl(teacher, student)
    if valid is None:
        return jnp.mean(values, (1, 2))
    return jnp.sum(jnp.where(valid > 0, values, 0.0), (1, 2)) / jnp.maximum(jnp.sum(valid > 0, (1, 2)), 1)


def affinity(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch places places"]:
    """Returns the cosines of all pairs of places."""
    x = distance.normalize(x.reshape(x.shape[0], -1, x.shape[-1]))
    return jnp.einsum("bic,bjc->bij", x, x, precision="highest")


def pair_wise(
    student: Float[Array, "batch height width _"], teacher: Float[Array, "batch height width _"]
) -> Float[Array, " batch"]:
    """Returns the mean squared difference of the affinities of two maps of one size."""
    return distance.mean_squared(affinity(student), affinity(teacher))


def nodes(
    x: Float[Array, "batch height width channels"], granularity: int
) -> Float[Array, "batch rows columns channels"]:
    """Averages `granularity` x `granularity` places, no place in two nodes."""
    return spatial.average_blocks(x, granularity)


class SKD(Method):
    """`pixel` and `pair` are the weights of the two parts; `layers` are the maps of the second."""

    layers: str = "stage3"
    granularity: int = 2
    pixel: Scalar = 1.0
    pair: Scalar = 1.0
    zero_at_teacher = True

    def check(self) -> None:
        check_least("granularity", self.granularity, 1)
        check_least("pixel", self.pixel, 0)
        check_least("pair", self.pair, 0)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            sides = spatial.to_smaller(adapters.to_grid(student_map), adapters.to_grid(teacher_map))
            return pair_wise(*(nodes(x, self.granularity) for x in sides))

        target = precise(teacher.logits)
        logits = adapters.resize(precise(student.logits), target.shape[1:3])
        pixels = pixel_wise(logits, target, regions.valid_pixels(batch, target.shape[1:3]))
        return self.pixel * pixels + self.pair * layer_mapping.sum_over_pairs(self, student, teacher, loss)
