"""Softmax regression representation learning (SRRL).

Yang, Martinez, Bulat, Tzimiropoulos, "Knowledge Distillation via Softmax Regression Representation Learning", ICLR
2021, https://openreview.net/forum?id=ZzwDy_wiWv

    loss = alpha mean_d (f_s - f_t)^2 + beta mean_k (W f_s - W f_t)_k^2

f are pooled features, f_s the student's after a learned connector; W is the teacher's classifier with its bias, which
does not learn. The student of this term is a network of source "reused_classifier", whose tap `pooled` is f_s and whose
logits are W f_s; the student's classifier learns from labels, in another term. alpha = beta = 1 is the authors' code.

If the student is another network and the widths differ, a linear map matches them.

Elsewhere: the authors' connector is a 1 x 1 convolution with batch normalisation and ReLU on the map, SimKD's copy
applies it to the pooled features; "reused_classifier" has SimKD's bottleneck. The second term, for which the paper has
several forms, is the mean squared error of logits in its code, as here.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar, precise
from jaxdistill.errors import UserError, check_least
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping


def srrl(
    student: Float[Array, "batch width"],
    teacher: Float[Array, "batch width"],
    student_logits: Float[Array, "batch classes"],
    teacher_logits: Float[Array, "batch classes"],
    alpha: Scalar,
    beta: Scalar,
) -> Float[Array, " batch"]:
    """Returns the weighted sum of the mean squared errors of features and of logits."""
    features = distance.mean_squared(student, teacher)
    return alpha * features + beta * distance.mean_squared(student_logits, teacher_logits)


class SRRL(Method):
    """`alpha` weights the features, `beta` the logits; `layers` pairs the projected features with the teacher's."""

    layers: str = "pooled"
    alpha: Scalar = 1.0
    beta: Scalar = 1.0
    zero_at_teacher = True

    def check(self) -> None:
        check_least("alpha", self.alpha, 0)
        check_least("beta", self.beta, 0)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        pairs = layer_mapping.paired_taps(self.layers, student, teacher)
        if len(pairs) != 1:
            raise UserError(f"layers must name one pair, the classifier's inputs, got {len(pairs)}: {self.layers!r}")
        features, target = pairs[0]
        if features.shape != target.shape:
            features = adapters.match(features, target, "connector")
        logits = precise(student.logits), precise(teacher.logits)
        return srrl(features, target, *logits, alpha=self.alpha, beta=self.beta)
