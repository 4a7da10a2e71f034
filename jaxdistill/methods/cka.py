"""Centred kernel alignment: the student's and the teacher's similarities of examples point the same way.

Kornblith, Norouzi, Lee, Hinton, "Similarity of Neural Network Representations Revisited", ICML 2019,
https://arxiv.org/abs/1905.00414; as what a student maximises: Saha, Bialkowski, Khalifa, "Distilling Representational
Similarity using Centered Kernel Alignment (CKA)", BMVC 2022.

    loss = 1 - <K_s, K_t> / (||K_s|| ||K_t||),    K = (H F) (H F)^T,    H = I - 1 1^T / B

the linear form, for features F `[B, everything else]`, centred by H. It is blind to rotations and to the scale of
either side, and widths may differ. Added over the pairs of layers. Features that are the same for all examples align
with nothing: the loss is 1, with zero gradient. Small batches bias the alignment upwards, so that values of batches of
different sizes do not compare.

Elsewhere: the first paper's code has this form and a debiased one, as a measure and not as a loss.
"""

import flax.linen as nn
import jax

from jaxdistill.core import Method
from jaxdistill.losses import relation
from jaxdistill.modules import layer_mapping


def cka(student: jax.Array, teacher: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns `[batch]` for features `[batch, ...]`; the mean over the rows of the mask is the loss."""
    return 1 - relation.cka(student, teacher, mask)


class CKA(Method):
    """`layers` names the features that are aligned."""

    layers: str = "pooled"
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    @nn.compact
    def __call__(self, student, teacher, batch):
        return layer_mapping.over(self, student, teacher, lambda own, other, name: cka(own, other, batch["mask"]))
