"""Masked generative distillation: the teacher's whole map is made from what is left of the student's.

Yang, Li, Shao, Shi, Yuan, Yuan, "Masked Generative Distillation", ECCV 2022, https://arxiv.org/abs/2205.01529

    loss = alpha sum over elements of (G(M * align(F_s)) - F_t)^2,    G = conv 3 x 3, ReLU, conv 3 x 3

added over the pairs of layers; M is 0 or 1 at random, 0 with probability `ratio`, anew for every example and step. A
mask drops channels of all places (`masks="channel"`, the authors' classification release: ratio 0.15, alpha 7e-5, the
defaults) or places of all channels ("pixel", their releases for detection and segmentation: alpha 2e-5, ratio 0.65 and
0.75). It is under "classification" for its defaults alone: for segmentation set the three. `align` is a 1 x 1
convolution, where the widths differ. G and it learn with the student, whose map is brought to the size of the
teacher's.

Elsewhere: MMRazor agrees, with the generation in a connector; ModelOpt takes the mean over elements.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Method
from jaxdistill.errors import check_fraction, check_least, unknown
from jaxdistill.modules import adapters, layer_mapping

MASKS = ("channel", "pixel")


def mgd(generated: jax.Array, teacher: jax.Array, alpha: float) -> jax.Array:
    """Returns `[batch]`, summed over elements, for two `[batch, height, width, channels]`."""
    return alpha * jnp.sum((generated - teacher) ** 2, (1, 2, 3))


class Generation(nn.Module):
    """Makes a map of `channels` from what `keep`, 0 or 1 and broadcast, leaves of `x` `[batch, height, width, c]`."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        if x.shape[-1] != self.channels:
            x = adapters.conv(self.channels, 1, name="align")(x)
        x = nn.relu(adapters.conv(self.channels, 3, name="conv0")(x * keep))
        return adapters.conv(self.channels, 3, name="conv1")(x)


class MGD(Method):
    """`masks` says what is dropped together, `ratio` how much of it."""

    layers: str = "stage3"
    masks: str = "channel"
    ratio: float = 0.15
    alpha: float = 7e-5
    same_classes = False

    def check(self):
        check_fraction("ratio", self.ratio)
        check_least("alpha", self.alpha, 0)
        if self.masks not in MASKS:
            raise unknown("kind of masks", self.masks, MASKS)

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            own, other = adapters.to_grid(own), adapters.to_grid(other)
            own = adapters.fit(own, other.shape[1:3])
            shape = (1, 1, other.shape[-1]) if self.masks == "channel" else (*other.shape[1:3], 1)
            keys = core.example_keys(self.make_rng("method"), batch)
            draws = jax.vmap(lambda key: jax.random.uniform(key, shape, other.dtype))(keys)
            keep = (draws >= self.ratio).astype(other.dtype)
            return mgd(Generation(other.shape[-1], name=name)(own, keep), other, self.alpha)

        return layer_mapping.over(self, student, teacher, loss)
