"""Hidden states: the student's state of each token resembles the teacher's.

Yang et al., "TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language Processing", ACL 2020
demonstrations, https://arxiv.org/abs/2002.12620, `hidden_mse` and `cos`; Arcee's DistillKit has them for language
models, https://github.com/arcee-ai/DistillKit.

    loss = sum_(i, j) mean_d (W_i h^s_i - h^t_j)_d^2    or    sum_(i, j) 1 - cos(W_i h^s_i, h^t_j)

one value per token, over pairs of layers (i, j); `W_i` is a learned linear map, which is there only where the widths
differ. The cosine leaves the length of a state free. Neither source names default layers: here every layer of the
student learns from one of the teacher's, evenly spaced.

Elsewhere: TextBrewer agrees. DistillKit averages over the pairs of layers, and so is smaller by their number; its maps
have no bias. EasyDeL's squared error is larger by the width where there is padding and not where there is none.
"""

import flax.linen as nn

from jaxdistill.core import Method
from jaxdistill.errors import unknown
from jaxdistill.losses import token
from jaxdistill.modules import adapters, layer_mapping

DISTANCES = {"mse": token.squared, "cosine": token.cosine}


class HiddenState(Method):
    """`distance` is "mse" or "cosine"; `layers` says which layer learns from which."""

    distance: str = "mse"
    layers: str = "uniform:block*"
    same_classes = False
    zero_at_teacher = True
    domain = "encoder"

    def check(self):
        if self.distance not in DISTANCES:
            raise unknown("distance", self.distance, DISTANCES)

    def valid(self, batch):
        return token.counted(batch)

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, target, name):
            own = own if own.shape == target.shape else adapters.match(own, target, name)
            return DISTANCES[self.distance](own, target)

        return layer_mapping.over(self, student, teacher, loss)
