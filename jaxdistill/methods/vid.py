"""Variational information distillation: the teacher's features, as likely as can be given the student's.

Ahn, Hu, Damianou, Lawrence, Dai, "Variational Information Distillation for Knowledge Transfer", CVPR 2019,
https://arxiv.org/abs/1904.05835

    loss = mean over elements of 1/2 [(t - mu(s))^2 / sigma_c^2 + log sigma_c^2],    sigma_c^2 = softplus(a_c) + eps

added over the pairs of layers: the negative log-likelihood of a Gaussian without its constant. Its sum over elements
bounds the mutual information of the two layers; the mean is the authors' code. mu is three 1 x 1 convolutions with
ReLUs between, a_c one number for each of the teacher's channels; both learn with the student. The variances begin at 5,
as in that code. Where the maps are of two sizes, the larger is averaged to the size of the smaller.

The value falls below 0 where the student predicts better than sigma = 1.

Elsewhere: RepDistiller and mdistiller agree, but mdistiller's optimiser never meets the variances. The authors' later
code has two convolutions, with nothing between, and begins at softplus(softplus(5)).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError
from jaxdistill.losses import spatial
from jaxdistill.modules import adapters, layer_mapping


def vid(mean: jax.Array, teacher: jax.Array, variance: jax.Array) -> jax.Array:
    """Returns `[batch]` nats for a predicted mean and what it predicts, `[batch, ..., channels]`.

    Args:
        variance: as many axes, of size 1 but for the channels.
    """
    surprise = (mean - teacher) ** 2 / variance + jnp.log(variance)
    return jnp.mean(surprise / 2, tuple(range(1, mean.ndim)))


def predict(x: jax.Array, hidden: int, channels: int, name: str) -> jax.Array:
    """Maps `[..., c]` to `[..., channels]`, each place for itself: 1 x 1 convolutions, c -> hidden -> hidden -> it."""
    x = nn.relu(nn.Dense(hidden, use_bias=False, name=f"{name}_conv0")(x))
    x = nn.relu(nn.Dense(hidden, use_bias=False, name=f"{name}_conv1")(x))
    return nn.Dense(channels, use_bias=False, name=f"{name}_conv2")(x)


def variance_of(raw: jax.Array, least: float, axes: int) -> jax.Array:
    """Returns softplus(raw) + least, `[1, ..., channels]` with that many axes, for `raw` `[channels]`."""
    return (jax.nn.softplus(raw) + least).reshape(*[1] * (axes - 1), raw.shape[0])


def inverse_softplus(y: jax.Array | float) -> jax.Array:
    """Returns x with softplus(x) = y > 0."""
    return y + jnp.log(-jnp.expm1(-jnp.asarray(y)))


class VID(Method):
    """`initial_variance` is where the variances begin; `least_variance`, eps, is what they stay above."""

    layers: str = "stage1,stage2,stage3"
    initial_variance: float = 5.0
    least_variance: float = 1e-5
    same_classes = False

    def check(self):
        if not 0 < self.least_variance < self.initial_variance:
            raise UserError(
                f"least_variance={self.least_variance} and initial_variance={self.initial_variance} make no sense; the"
                " first is greater than 0 and less than the second"
            )

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            if own.ndim != other.ndim or own.ndim == 4:
                own, other = spatial.to_smaller(adapters.to_grid(own), adapters.to_grid(other))
            if own.shape[:-1] != other.shape[:-1]:
                raise UserError(f"{name!r}: {list(own.shape)} says nothing of {list(other.shape)}, place by place")
            channels = other.shape[-1]
            begin = inverse_softplus(self.initial_variance - self.least_variance)
            raw = self.param(f"{name}_variance", lambda key: jnp.full(channels, begin, jnp.float32))
            variance = variance_of(raw, self.least_variance, own.ndim)
            return vid(predict(own, channels, channels, name), other, variance)

        return layer_mapping.over(self, student, teacher, loss)
