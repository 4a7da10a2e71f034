"""MobileBERT: feature map transfer and attention transfer.

Sun et al., "MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices", ACL 2020,
https://arxiv.org/abs/2004.02984

    loss = sum_(i, j) [ 1 / (l d) ||H^s_i - H^t_j||_2^2 + 1 / (heads l) sum_(h, n) KL(A^t_jhn || A^s_ihn) ]

one value per example of l tokens n; H are the feature maps between blocks and A = softmax(scores). Student and teacher
have equal numbers of layers and heads, and maps of one width, by the bottlenecks of both; if the widths differ, a
learned linear map gives the student's the teacher's. Progressive transfer, the paper's best, is done by stages:
`layers="block0"`, then "block1", ..., with the blocks below frozen. The distillation of the predictions that comes last
is `distilbert` without its cosine, with labels at the masked tokens.

Elsewhere: the authors' code compares maps after a layer normalisation without parameters (weight 100), their means
(squared, 5000) and variances (absolute, 5), and attention by cross-entropy (1), which has the same gradient as KL; it
divides by the number of the stage.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar, precise
from jaxdistill.errors import check_least
from jaxdistill.losses import attention, token
from jaxdistill.modules import adapters, layer_mapping


class MobileBERT(Method):
    """`layers` pairs the blocks; the weights are those of feature maps and of attention."""

    layers: str = "uniform:block*"
    feature_weight: Scalar = 1.0
    attention_weight: Scalar = 1.0
    same_classes = False
    zero_at_teacher = True

    def check(self) -> None:
        attention.check_layers(self.layers)
        check_least("feature_weight", self.feature_weight, 0)
        check_least("attention_weight", self.attention_weight, 0)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        is_token = token.token_positions(batch)
        total = jnp.zeros(())
        for student_block, teacher_block in layer_mapping.pairs(self.layers, student.taps, teacher.taps):
            sides = (student, student_block), (teacher, teacher_block)
            feature, target = (precise(output.tap(block)) for output, block in sides)
            if feature.shape != target.shape:
                feature = adapters.match(feature, target, f"{student_block}_{teacher_block}".replace("/", "_"))
            scores = [precise(output.tap(f"{block}/scores")) for output, block in sides]
            rows = self.attention_weight * attention.kl(*scores, is_token)
            total = total + token.mean(rows + self.feature_weight * token.squared(feature, target), is_token)
        return total
