"""Variational information distillation (VID).

Ahn, Hu, Damianou, Lawrence, Dai, "Variational Information Distillation for Knowledge Transfer", CVPR 2019,
https://arxiv.org/abs/1904.05835

    loss = mean over elements of 1/2 [(t - mu(s))^2 / sigma_c^2 + log sigma_c^2],    sigma_c^2 = softplus(a_c) + eps

added over the pairs of layers: the negative log-likelihood of the teacher's features under a Gaussian predicted from
the student's, without its constant. Its sum over elements bounds the mutual information of the two layers; the mean is
the authors' code. mu is three 1 x 1 convolutions with ReLUs between, a_c one number for each of the teacher's channels;
both learn with the student. The variances begin at 5, as in that code. If the maps' sizes differ, the larger is
averaged to the size of the smaller.

The value is negative if the student predicts better than sigma = 1.

Elsewhere: RepDistiller and mdistiller agree, but mdistiller's optimiser does not update the variances. The authors'
later code has two convolutions, with nothing between, and begins at softplus(softplus(5)).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import UserError
from jaxdistill.losses import spatial
from jaxdistill.modules import adapters, layer_mapping


def vid(
    mean: Float[Array, " batch *places channels"],
    teacher: Float[Array, " batch *places channels"],
    variance: Float[Array, "*ones channels"],
) -> Float[Array, " batch"]:
    """Returns the mean negative log-likelihood of the teacher's features in nats.

    Args:
        mean: predicted by the student.
        teacher: the features.
        variance: with the same number of axes, all of size 1 except the channels.
    """
    surprise = (mean - teacher) ** 2 / variance + jnp.log(variance)
    return jnp.mean(surprise / 2, tuple(range(1, mean.ndim)))


def predict(x: Float[Array, "*places _"], hidden: int, channels: int, name: str) -> Float[Array, "*places {channels}"]:
    """Maps each place by 1 x 1 convolutions, c -> hidden -> hidden -> channels."""
    x = nn.relu(nn.Dense(hidden, use_bias=False, name=f"{name}_conv0")(x))
    x = nn.relu(nn.Dense(hidden, use_bias=False, name=f"{name}_conv1")(x))
    return nn.Dense(channels, use_bias=False, name=f"{name}_conv2")(x)


def variance_of(raw: Float[Array, " channels"], least: Scalar, axes: int) -> Float[Array, "*ones channels"]:
    """Returns softplus(raw) + least with `axes` axes, of size 1 before the channels."""
    return (jax.nn.softplus(raw) + least).reshape(*[1] * (axes - 1), raw.shape[0])


def inverse_softplus(y: Scalar) -> Float[Array, "..."]:
    """Returns x with softplus(x) = y > 0."""
    return y + jnp.log(-jnp.expm1(-jnp.asarray(y)))


class VID(Method):
    """`initial_variance` is the variances' initial value; `least_variance` is eps, their lower bound."""

    layers: str = "stage1,stage2,stage3"
    initial_variance: Scalar = 5.0
    least_variance: Scalar = 1e-5
    same_classes = False

    def check(self) -> None:
        if not 0 < self.least_variance < self.initial_variance:
            raise UserError(
                "least_variance must be greater than 0 and less than initial_variance, got"
                f" {self.least_variance} and {self.initial_variance}"
            )

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_features: Array, teacher_features: Array, name: str) -> Array:
            x, target = student_features, teacher_features
            if x.ndim != target.ndim or x.ndim == 4:
                x, target = spatial.to_smaller(adapters.to_grid(x), adapters.to_grid(target))
            if x.shape[:-1] != target.shape[:-1]:
                raise UserError(f"{name!r}: places must match, got {list(x.shape)} and {list(target.shape)}")
            channels = target.shape[-1]
            initial = inverse_softplus(self.initial_variance - self.least_variance)
            raw = self.param(f"{name}_variance", lambda key: jnp.full(channels, initial, jnp.float32))
            variance = variance_of(raw, self.least_variance, x.ndim)
            return vid(predict(x, channels, channels, name), target, variance)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
