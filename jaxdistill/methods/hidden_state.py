"""Hidden-state matching by mean squared error or cosine.

Yang et al., "TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language Processing", ACL 2020
demonstrations, https://arxiv.org/abs/2002.12620, `hidden_mse` and `cos`; Arcee's DistillKit has them for language
models, https://github.com/arcee-ai/DistillKit.

    loss = sum_(i, j) mean_d (W_i h^s_i - h^t_j)_d^2    or    sum_(i, j) 1 - cos(W_i h^s_i, h^t_j)

one value per token, over pairs of layers (i, j); `W_i` is a learned linear map, created only if the widths differ. The
cosine does not depend on the length of a state. Neither source names default layers: here every layer of the student
learns from one of the teacher's, evenly spaced.

Elsewhere: TextBrewer agrees. DistillKit averages over the pairs of layers, and so is smaller by their number; its maps
have no bias. EasyDeL's squared error is larger by the width with padding, and not without.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import unknown
from jaxdistill.losses import token
from jaxdistill.modules import adapters, layer_mapping

DISTANCES = {"mse": token.squared, "cosine": token.cosine}


class HiddenState(Method):
    """`distance` is "mse" or "cosine"; `layers` pairs the layers of the two sides."""

    distance: str = "mse"
    layers: str = "uniform:block*"
    same_classes = False
    zero_at_teacher = True

    def check(self) -> None:
        if self.distance not in DISTANCES:
            raise unknown("distance", self.distance, DISTANCES, "a distance")

    def valid(self, batch: Batch) -> Float[Array, "batch length"]:
        return token.valid_tokens(batch)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "batch length"]:
        def loss(student_states: Array, teacher_states: Array, name: str) -> Array:
            if student_states.shape != teacher_states.shape:
                student_states = adapters.match(student_states, teacher_states, name)
            return DISTANCES[self.distance](student_states, teacher_states)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
