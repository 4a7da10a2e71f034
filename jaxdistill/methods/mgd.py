"""Masked generative distillation (MGD).

Yang, Li, Shao, Shi, Yuan, Yuan, "Masked Generative Distillation", ECCV 2022, https://arxiv.org/abs/2205.01529

    loss = alpha sum over elements of (G(M * align(F_s)) - F_t)^2,    G = conv 3 x 3, ReLU, conv 3 x 3

added over the pairs of layers: the teacher's full map is generated from the student's masked one. M is 0 or 1 at
random, 0 with probability `ratio`, drawn anew for every example and step. A mask drops channels of all places
(`masks="channel"`, the authors' classification release: ratio 0.15, alpha 7e-5, the defaults) or places of all channels
("pixel", their releases for detection and segmentation: alpha 2e-5, ratio 0.65 and 0.75). For segmentation set the
three. `align` is a 1 x 1 convolution, used if the widths differ. Both it and G learn with the student, whose map is
resized to the teacher's.

Elsewhere: MMRazor agrees, with the generation in a connector; ModelOpt takes the mean over elements.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill import core
from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_fraction, check_least, unknown
from jaxdistill.modules import adapters, layer_mapping

MASKS = ("channel", "pixel")


def mgd(
    generated: Float[Array, "batch height width channels"],
    teacher: Float[Array, "batch height width channels"],
    alpha: Scalar,
) -> Float[Array, " batch"]:
    """Returns `alpha` times the sum of squared differences."""
    return alpha * jnp.sum((generated - teacher) ** 2, (1, 2, 3))


class Generation(nn.Module):
    """Generates a map of `channels` from `x` masked by `keep`, which is 0 or 1 and broadcast."""

    channels: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width _"], keep: Float[Array, "batch _ _ _"]
    ) -> Float[Array, "batch height width {self.channels}"]:
        if x.shape[-1] != self.channels:
            x = adapters.conv(self.channels, 1, name="align")(x)
        x = nn.relu(adapters.conv(self.channels, 3, name="conv0")(x * keep))
        return adapters.conv(self.channels, 3, name="conv1")(x)


class MGD(Method):
    """`masks` is the unit that is dropped, "channel" or "pixel"; `ratio` the dropped fraction; `alpha` the weight."""

    layers: str = "stage3"
    masks: str = "channel"
    ratio: Scalar = 0.15
    alpha: Scalar = 7e-5
    same_classes = False

    def check(self) -> None:
        check_fraction("ratio", self.ratio)
        check_least("alpha", self.alpha, 0)
        if self.masks not in MASKS:
            raise unknown("masks", self.masks, MASKS, "a kind of mask")

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            student_map, teacher_map = adapters.to_grid(student_map), adapters.to_grid(teacher_map)
            student_map = adapters.resize(student_map, teacher_map.shape[1:3])
            _, height, width, channels = teacher_map.shape
            shape = (1, 1, channels) if self.masks == "channel" else (height, width, 1)
            keys = core.example_keys(self.make_rng("method"), batch)
            draws = jax.vmap(lambda key: jax.random.uniform(key, shape, teacher_map.dtype))(keys)
            keep = (draws >= self.ratio).astype(teacher_map.dtype)
            return mgd(Generation(channels, name=name)(student_map, keep), teacher_map, self.alpha)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
