"""What can be put on a tap of a network: a classifier, principal components, a paraphraser, a projector.

A head is called as `head(x, train=False) -> Output`, but for the projector, which gives a map.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.modules import adapters


class Linear(nn.Module):
    """A linear classifier on a tap: spatial or token axes are averaged first."""

    classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        pooled = jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))
        return Output(nn.Dense(self.classes, dtype=self.dtype, name="classifier")(pooled), {"pooled": pooled})


class PCA(nn.Module):
    """The first principal components of a tap, over examples and places: a smaller target for any method of features.

    Its variables, collection `components`, are `mean` `[width]` and `axes` `[width, components]`, by falling
    variance; a stage of kind "components" fits them. Tap: `reduced`, `[batch, ..., components]`, beside the logits and
    taps of the network it is put on, so that any method can take it in the place of that one.
    """

    components: int
    beside = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        width = x.shape[-1]
        if self.components > width:
            raise UserError(f"components={self.components} makes no sense; the tap is {width} wide")
        mean = self.variable("components", "mean", lambda: jnp.zeros(width))
        axes = self.variable("components", "axes", lambda: jnp.eye(width, self.components))
        reduced = (x - mean.value.reshape(*[1] * (x.ndim - 1), width)) @ axes.value
        return Output(jnp.mean(reduced, axis=tuple(range(1, x.ndim - 1))), {"reduced": reduced})


class Paraphraser(nn.Module):
    """An autoencoder of a map, whose middle is factor transfer's target: three convolutions there, three back.

    Kim, Park, Kwak, "Paraphrasing Complex Network", NeurIPS 2018, https://arxiv.org/abs/1802.04977. Taps: `factor`,
    `[batch, height, width, fraction * channels]`, and `reconstruction`, of the shape of the input; the logits are the
    factor's mean over places. It learns from `reconstruction` alone, by `fitnet` with adapter=False.

    Attributes:
        fraction: channels of the factor for one of the input, the paper's k.
        norm: whether each convolution is followed by batch normalisation; the authors' code has none.
    """

    fraction: float = 0.5
    norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        width = x.shape[-1]
        channels = max(1, round(self.fraction * width))
        there, back = (width, channels, channels), (channels, width, width)
        factor = adapters.convolutions(x, there, name="encoder", normed=self.norm, train=train)
        again = adapters.convolutions(factor, back, name="decoder", normed=self.norm, train=train)
        return Output(jnp.mean(factor, (1, 2)), {"factor": factor, "reconstruction": again})


class Projector(nn.Module):
    """A bottleneck from a tap to the teacher's channels: convolutions 1 x 1, 3 x 3, 1 x 1, each with norm and ReLU.

    Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
    https://arxiv.org/abs/2203.14001, section 3.2. It is called as `projector(x, train) -> map` and keeps the size; a
    vector is a map of one place. Its last ReLU suits features that come out of one, as those of the models here do.

    Attributes:
        channels: of the result, those of the teacher's tap.
        factor: how many times fewer channels the bottleneck has.
    """

    channels: int
    factor: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        middle = max(1, self.channels // self.factor)
        found = x[:, None, None] if x.ndim == 2 else x
        for index, (width, size) in enumerate([(middle, 1), (middle, 3), (self.channels, 1)]):
            found = adapters.conv(width, size, name=f"conv{index}", bias=False)(found)
            found = nn.relu(adapters.norm(found, jnp.ones(len(x)), name=f"norm{index}", train=train))
        return found[:, 0, 0] if x.ndim == 2 else found
