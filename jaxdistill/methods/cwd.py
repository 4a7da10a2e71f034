"""Channel-wise distillation (CWD).

Shu, Liu, Gao, Yan, Shen, "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021,
https://arxiv.org/abs/2011.13256

    loss = T^2 / C sum_c KL(softmax_i(t_ci / T) || softmax_i(s_ci / T))

with the softmax over the places i of a map: each channel's spatial distribution matches. One value per image, the mean
over its channels. A channel of the logits is a class, and `layers="logits"` the paper's better choice, with weight 3;
of features the weight is 50. T = 4 throughout. Void pixels, where `batch["valid"]` is 0, are no places of the logits'
distributions; in features all places count. If the widths differ, a 1 x 1 convolution gives the student's map the
teacher's channels, as in the paper, and it is resized to the teacher's.

Elsewhere: MMRazor and TorchDistiller agree, except that the second takes the log of a softmax; its norm "spatial" is a
softmax over classes at each place, which is `kd` here.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_positive
from jaxdistill.losses import divergence, regions
from jaxdistill.modules import adapters, layer_mapping

MASKED_LOGIT = -1e30
"""The logit of a place that does not count: finite, so that the difference of two of them is 0."""


def cwd(
    student: Float[Array, "batch height width channels"],
    teacher: Float[Array, "batch height width channels"],
    temperature: Scalar,
    valid: Float[Array, "batch height width"] | None = None,
) -> Float[Array, " batch"]:
    """Returns the mean over channels of the divergence between spatial distributions, in nats.

    The distributions are over the places where `valid` is above 0, by default all.
    """
    if valid is not None:
        student, teacher = (jnp.where(valid[..., None] > 0, x, MASKED_LOGIT) for x in (student, teacher))
    student, teacher = (
        jnp.moveaxis(x.reshape(x.shape[0], -1, x.shape[-1]), 1, -1) / temperature for x in (student, teacher)
    )
    return temperature**2 * jnp.mean(divergence.kl(teacher, student), -1)


class CWD(Method):
    """`temperature` divides both; `layers` are "logits" or taps, or both: "logits,stage3"."""

    layers: str = "logits"
    temperature: Scalar = 4.0
    zero_at_teacher = True

    @property
    def same_classes(self) -> bool:
        return "logits" in [name.strip() for name in self.layers.split(",")]

    def check(self) -> None:
        check_positive("temperature", self.temperature)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            student_map, teacher_map = adapters.to_grid(student_map), adapters.to_grid(teacher_map)
            student_map = adapters.resize(student_map, teacher_map.shape[1:3])
            if student_map.shape != teacher_map.shape:
                student_map = adapters.match(student_map, teacher_map, name)
            valid = regions.valid_pixels(batch, teacher_map.shape[1:3]) if name == "logits" else None
            return cwd(student_map, teacher_map, self.temperature, valid)

        student, teacher = (x.replace(taps=dict(x.taps) | {"logits": x.logits}) for x in (student, teacher))
        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
