"""Cross-head knowledge distillation (CrossKD).

Wang, Zhang, Zhang, Wang, Hou, Cheng, Yang, "CrossKD: Cross-Head Knowledge Distillation for Object Detection", CVPR
2024, https://arxiv.org/abs/2306.11369

    loss = sum_x [classes sum_k |q_xk - p_xk|^beta BCE(p_xk, q_xk) + w_x (box (1 - GIoU(b_x, b'_x))
                  + centerness KL(o'_x || o_x))] / sum_x w_x

p and b are the scores and boxes of the crossed head, q and b' those of the teacher, and w_x = max_k q_xk. The student
of this term is a network of source "crossed_head": the student's features from the middle of its towers go through the
rest of the teacher's frozen head, so that the teacher's predictions never contradict the labels that the student's own
head learns. The first term is the quality focal loss. If both sides have distributions of distances (`bins`), their KL,
the mean over edges at temperature 1, takes the place of GIoU, for which the authors have the weight 4.

The student may also be a plain detector: the loss is then that of prediction mimicking. The term of the centre-ness o
is not among the paper's two, and 0 by default; a student that learns from its teacher alone needs it.

Elsewhere: the authors divide by the weights of the batch of all devices, here by those of the image, at least 1, so
that a value is of its image alone.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar, dense, precise
from jaxdistill.errors import UserError, check_least
from jaxdistill.losses import boxes, divergence
from jaxdistill.methods.ld import best_score, ld, take_edges


def quality_focal(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], beta: Scalar
) -> Float[Array, "*n"]:
    """Returns the quality focal loss of the student's scores with the teacher's as targets, summed over classes.

    Li et al., "Generalized Focal Loss", NeurIPS 2020, https://arxiv.org/abs/2006.04388, equation 2.
    """
    target = jax.nn.sigmoid(teacher)
    gap = jnp.abs(target - jax.nn.sigmoid(student))
    # The power of 0 has no gradient for beta < 1.
    size = jnp.where(gap > 0, jnp.where(gap > 0, gap, 1.0) ** beta, 0.0)
    return jnp.sum(size * optax.sigmoid_binary_cross_entropy(student, target), -1)


def box_loss(student: Output, teacher: Output) -> Float[Array, "batch locations"]:
    """Returns the loss of each location's box: of the distributions of its distances, or of GIoU.

    Raises:
        UserError: for distributions over other bins.
    """
    if "edges" in student.taps and "edges" in teacher.taps:
        return ld(*take_edges(student, teacher, "crosskd"), 1.0)
    return 1 - boxes.giou(precise(student.tap("boxes")), precise(teacher.tap("boxes")))


class CrossKD(Method):
    """`classes`, `box` and `centerness` are weights, `beta` the exponent of the gap between two scores."""

    classes: Scalar = 1.0
    box: Scalar = 1.0
    centerness: Scalar = 0.0
    beta: Scalar = 1.0
    zero_at_teacher = True
    predictions = ("boxes",)

    def check(self) -> None:
        for name in ("classes", "box", "centerness", "beta"):
            check_least(name, getattr(self, name), 0)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        left, right = precise(dense(student.logits)), precise(dense(teacher.logits))
        if left.shape != right.shape:
            raise UserError(
                "crosskd must compare the same locations and classes, got logits"
                f" {list(left.shape)} and {list(right.shape)}. Give both networks the same levels"
            )
        weight = best_score(teacher)
        centers = (precise(side.tap("centerness")) for side in (teacher, student))
        of_boxes = self.box * box_loss(student, teacher) + self.centerness * divergence.binary_kl(*centers)
        total = self.classes * quality_focal(left, right, self.beta) + weight * of_boxes
        return jnp.sum(total, -1) / jnp.maximum(jnp.sum(weight, -1), 1.0)
