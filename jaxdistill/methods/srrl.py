"""Softmax regression representation learning: the teacher's classifier cannot tell the student's features from its own.

Yang, Martinez, Bulat, Tzimiropoulos, "Knowledge Distillation via Softmax Regression Representation Learning", ICLR
2021, https://openreview.net/forum?id=ZzwDy_wiWv

    loss = alpha mean_d (f_s - f_t)^2 + beta mean_k (W f_s - W f_t)_k^2

f are pooled features, f_s the student's through a learned connector; W is the teacher's classifier with its bias, which
does not learn. The student of this term is a network of source "reuse", whose tap `pooled` is f_s and whose logits are
W f_s; the labels teach the student's own classifier, in another term. alpha = beta = 1 is the authors' code.

Where the widths differ, since that student is no such network, a linear map matches them.

Elsewhere: the authors' connector is a 1 x 1 convolution with batch normalisation and ReLU on the map, SimKD's copy puts
it on the pooled features; "reuse" has SimKD's bottleneck. The second term, for which the paper has several forms, is
the mean squared error of logits in its code, as here.
"""

import flax.linen as nn
import jax

from jaxdistill.core import Method, precise
from jaxdistill.errors import UserError, check_least
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping


def srrl(
    student: jax.Array,
    teacher: jax.Array,
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    alpha: float,
    beta: float,
) -> jax.Array:
    """Returns `[batch]` for features `[batch, width]` and logits `[batch, classes]`."""
    features = distance.mean_squared(student, teacher)
    return alpha * features + beta * distance.mean_squared(student_logits, teacher_logits)


class SRRL(Method):
    """`alpha` weighs the features, `beta` the logits; `layers` pairs the projected features with the teacher's."""

    layers: str = "pooled"
    alpha: float = 1.0
    beta: float = 1.0
    zero_at_teacher = True

    def check(self):
        check_least("alpha", self.alpha, 0)
        check_least("beta", self.beta, 0)

    @nn.compact
    def __call__(self, student, teacher, batch):
        pairs = layer_mapping.taps(self.layers, student, teacher)
        if len(pairs) != 1:
            raise UserError(f"layers={self.layers!r} names {len(pairs)} pairs; srrl has one, what the classifier reads")
        own, other = pairs[0]
        own = own if own.shape == other.shape else adapters.match(own, other, "connector")
        return srrl(own, other, precise(student.logits), precise(teacher.logits), self.alpha, self.beta)
