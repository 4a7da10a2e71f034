"""Centred kernel alignment (CKA).

Kornblith, Norouzi, Lee, Hinton, "Similarity of Neural Network Representations Revisited", ICML 2019,
https://arxiv.org/abs/1905.00414; as a student's objective: Saha, Bialkowski, Khalifa, "Distilling Representational
Similarity using Centered Kernel Alignment (CKA)", BMVC 2022.

    loss = 1 - <K_s, K_t> / (||K_s|| ||K_t||),    K = (H F) (H F)^T,    H = I - 1 1^T / B

the linear form, for features F `[B, everything else]`, centred by H: the similarities of the examples of a batch align.
It is invariant to rotations and to the scale of either side, and widths may differ. Added over the pairs of layers.
Features equal for all examples align with nothing: the loss is 1, with zero gradient. Small batches bias the alignment
upwards, so that values of batches of different sizes do not compare.

Elsewhere: the first paper's code has this form and a debiased one, as a measure and not as a loss.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.losses import relation
from jaxdistill.modules import layer_mapping


def cka(
    student: Float[Array, " batch *student_shape"],
    teacher: Float[Array, " batch *teacher_shape"],
    mask: Float[Array, " batch"],
) -> Float[Array, " batch"]:
    """Returns each example's part of the loss, which is the mean over the rows of the mask."""
    return 1 - relation.cka(student, teacher, mask)


class CKA(Method):
    """`layers` names the aligned features."""

    layers: str = "pooled"
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        return layer_mapping.sum_over_pairs(self, student, teacher, lambda s, t, name: cka(s, t, batch["mask"]))
