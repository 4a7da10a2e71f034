"""Modules on a tap of a network: a classifier, principal components, a paraphraser, a projector.

The members of `HEADS` are found by name; a head of one's own is a subclass of `TapHead`.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least, check_positive
from jaxdistill.modules import adapters


class TapHead(nn.Module):
    """Base class of heads: `head(x, train=False) -> Output` for a tap `x`, `[batch, ..., width]`.

    Fields named `classes` and `dtype` are set by the builder, all others are config keys.

    Class attributes:
        learns: whether it has params.
        fitted: whether a stage of kind "pca" fits it, so that it is frozen elsewhere.
        keeps_outputs: whether its taps are added to the output of its network, whose logits are kept.
    """

    learns = True
    fitted = False
    keeps_outputs = False

    def check(self) -> None:
        """Checks the fields, before anything is compiled.

        Raises:
            UserError: for a field with a value that it cannot have.
        """


class Identity(TapHead):
    """The tap itself as logits."""

    learns = False

    def __call__(self, x: Float[Array, " batch *positions width"], train: bool = False) -> Output:
        return Output(x)


class Linear(TapHead):
    """A linear classifier on a tap: spatial or token axes are averaged first."""

    classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, " batch *positions width"], train: bool = False) -> Output:
        pooled = jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))
        return Output(nn.Dense(self.classes, dtype=self.dtype, name="classifier")(pooled), {"pooled": pooled})


class PCA(TapHead):
    """The first principal components of a tap, over examples and places: a smaller target for any method of features.

    Its variables, collection `components`, are `mean` `[width]` and `axes` `[width, components]`, by falling
    variance; a stage of kind "pca" fits them. Tap: `reduced`, `[batch, ..., components]`, besides the logits and
    taps of the network that it is put on, so that any method can take it in place of that one.

    Attributes:
        components: number of components.
    """

    components: int = 16
    learns = False
    fitted = True
    keeps_outputs = True

    def check(self) -> None:
        check_least("components", self.components, 1)

    @nn.compact
    def __call__(self, x: Float[Array, " batch *positions width"], train: bool = False) -> Output:
        width = x.shape[-1]
        if self.components > width:
            raise UserError(f"components must be at most the width of the tap, {width}, got {self.components}")
        mean = self.variable("components", "mean", lambda: jnp.zeros(width))
        axes = self.variable("components", "axes", lambda: jnp.eye(width, self.components))
        reduced = (x - mean.value.reshape(*[1] * (x.ndim - 1), width)) @ axes.value
        return Output(jnp.mean(reduced, axis=tuple(range(1, x.ndim - 1))), {"reduced": reduced})


class Paraphraser(TapHead):
    """An autoencoder of a map, whose code is the target of factor transfer: three convolutions to it, three back.

    Kim, Park, Kwak, "Paraphrasing Complex Network", NeurIPS 2018, https://arxiv.org/abs/1802.04977. Taps: `factor`,
    `[batch, height, width, fraction * channels]`, and `reconstruction`, of the shape of the input; the logits are the
    factor's mean over places. It learns from `reconstruction` alone, by `fitnet` with adapter=False.

    Attributes:
        fraction: channels of the factor for one of the input, the paper's k.
        norm: whether each convolution is followed by batch normalisation; the authors' code has none.
    """

    fraction: float = 0.5
    norm: bool = False

    def check(self) -> None:
        check_positive("fraction", self.fraction)

    @nn.compact
    def __call__(self, x: Float[Array, " batch *positions width"], train: bool = False) -> Output:
        width = x.shape[-1]
        channels = max(1, round(self.fraction * width))
        to_factor, to_input = (width, channels, channels), (channels, width, width)
        factor = adapters.convolutions(x, to_factor, name="encoder", normed=self.norm, train=train)
        reconstruction = adapters.convolutions(factor, to_input, name="decoder", normed=self.norm, train=train)
        return Output(jnp.mean(factor, (1, 2)), {"factor": factor, "reconstruction": reconstruction})


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
    def __call__(
        self, x: Float[Array, " batch *positions width"], train: bool = False
    ) -> Float[Array, " batch *positions out"]:
        middle = max(1, self.channels // self.factor)
        y = x[:, None, None] if x.ndim == 2 else x
        for index, (width, size) in enumerate([(middle, 1), (middle, 3), (self.channels, 1)]):
            y = adapters.conv(width, size, name=f"conv{index}", bias=False)(y)
            y = nn.relu(adapters.norm(y, jnp.ones(len(x)), name=f"norm{index}", train=train))
        return y[:, 0, 0] if x.ndim == 2 else y


HEADS: dict[str, type[TapHead]] = {"linear": Linear, "none": Identity, "pca": PCA, "paraphraser": Paraphraser}
"""name -> module of a network with `source="head"`."""
