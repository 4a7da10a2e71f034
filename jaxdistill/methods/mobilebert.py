"""MobileBERT: the feature map and the attention of every layer, one layer after the other.

Sun et al., "MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices", ACL 2020,
https://arxiv.org/abs/2004.02984

    loss = sum_(i, j) [ 1 / (l d) ||H^s_i - H^t_j||_2^2 + 1 / (heads l) sum_(h, n) KL(A^t_jhn || A^s_ihn) ]

one value per example of l tokens, n among them; H are the feature maps between blocks and A = softmax(scores). Student
and teacher have as many layers and heads as each other, and the maps are of one width, by the bottlenecks of both;
where they are not, a learned linear map brings the student's to the teacher's. Progressive transfer, the paper's best,
is a matter of stages: `layers="block0"`, then "block1", ..., with the blocks below frozen. The distillation of the
predictions that comes last is `distilbert` without its cosine, with labels at the masked tokens.

Elsewhere: the authors' code compares maps after a layer normalisation without parameters (weight 100), their means
(squared, 5000) and variances (absolute, 5), and attention by cross-entropy (1), which has the same gradient as KL; it
divides by the number of the stage.
"""

import flax.linen as nn

from jaxdistill.core import Method, precise
from jaxdistill.errors import check_least
from jaxdistill.losses import attention, token
from jaxdistill.modules import adapters, layer_mapping


class MobileBERT(Method):
    """`layers` pairs the blocks; the two weights are those of feature maps and of attention."""

    layers: str = "uniform:block*"
    feature_weight: float = 1.0
    attention_weight: float = 1.0
    same_classes = False
    zero_at_teacher = True
    domain = "encoder"

    def check(self):
        attention.check_layers(self.layers)
        check_least("feature_weight", self.feature_weight, 0)
        check_least("attention_weight", self.attention_weight, 0)

    @nn.compact
    def __call__(self, student, teacher, batch):
        there = token.there(batch)
        total = 0.0
        for own, other in layer_mapping.pairs(self.layers, student.taps, teacher.taps):
            named = (student, own), (teacher, other)
            feature, target = (precise(output.tap(name)) for output, name in named)
            if feature.shape != target.shape:
                feature = adapters.match(feature, target, f"{own}_{other}".replace("/", "_"))
            scores = [precise(output.tap(f"{name}/scores")) for output, name in named]
            rows = self.attention_weight * attention.kl(*scores, there)
            total = total + token.mean(rows + self.feature_weight * token.squared(feature, target), there)
        return total
