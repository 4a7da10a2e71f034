"""Overhaul of feature distillation: what the teacher's ReLU lets through is matched, what it cuts off only bounded.

Heo, Kim, Yun, Park, Kwak, Choi, "A Comprehensive Overhaul of Feature Distillation", ICCV 2019,
https://arxiv.org/abs/1904.01866

    loss = 1/1000 sum_i 2^(i - n) sum over elements of (s - t')^2 where s > t' or t > 0,    t' = max(t, m_c)

for layers i = 1 .. n before their ReLU; 2^(i - n) and 1/1000 are the authors' code's. s is the student's layer through
a learned connector, a 1 x 1 convolution and batch normalisation. The margin m_c = E[t_c | t_c < 0] of each channel is
that of a Gaussian of the teacher's mean and variance; it is -3 deviations where less than 0.1 % lies below 0. A larger
map of the teacher's is averaged to the student's size, as mdistiller does.

The authors read the mean and the variance off the teacher's batch normalisation. A method sees outputs alone: it
measures them, batch by batch, and keeps running averages. That is the same number where the tap is the output of
batch normalisation, and not behind a residual addition, where the authors' is that of the last branch alone.

Elsewhere: mdistiller agrees; MMRazor weighs all layers alike and lets the user divide; KD-Zoo's margin is the mean of
what the batch holds below 0, and its loss the mean over elements. Inputs of the authors' teacher are normalised by
their batch, as it runs in train mode; ours only speaks.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import check_fraction
from jaxdistill.losses import spatial
from jaxdistill.modules import adapters, layer_mapping

SCALE = 1 / 1000
"""The authors' factor, which brings the sum over elements near the size of a cross-entropy."""


def ofd(student: jax.Array, teacher: jax.Array, margin: jax.Array) -> jax.Array:
    """Returns `[batch]`, summed over elements, for two `[batch, ..., channels]` before the ReLU and `[channels]`."""
    target = jnp.maximum(teacher, margin.reshape(*[1] * (teacher.ndim - 1), -1))
    counts = (student > target) | (target > 0)
    return jnp.sum(jnp.where(counts, (student - target) ** 2, 0.0), tuple(range(1, student.ndim)))


def margin_of(mean: jax.Array, deviation: jax.Array) -> jax.Array:
    """E[x | x < 0] for x from Gaussians, all `[channels]`; -3 deviations where P(x < 0) <= 0.001."""
    varies = deviation > 0
    ratio = mean / jnp.where(varies, deviation, 1.0)
    log_below = jax.scipy.special.log_ndtr(-ratio)
    often = log_below > math.log(0.001)
    hazard = jnp.exp(-(ratio**2) / 2 - math.log(2 * math.pi) / 2 - jnp.where(often, log_below, 0.0))
    expected = jnp.where(often, mean - deviation * hazard, -3 * deviation)
    return jnp.where(varies, expected, jnp.minimum(mean, 0.0))


class Connector(nn.Module):
    """The student's map in the teacher's channels, before a ReLU: `[batch, ..., c]` to `[batch, ..., channels]`."""

    channels: int
    size: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = True) -> jax.Array:
        x = adapters.conv(self.channels, self.size, name="conv", bias=False)(x)
        return adapters.norm(x, mask, name="norm", train=train)


class OFD(Method):
    """`momentum` is that of the teacher's running statistics; `layers` are values before a ReLU, the deepest last."""

    layers: str = "stage1/preact,stage2/preact,stage3/preact"
    momentum: float = 0.9
    same_classes = False
    needs_whole_batch = True

    def check(self):
        layer_mapping.check_paired(self.layers)
        check_fraction("momentum", self.momentum)

    @nn.compact
    def __call__(self, student, teacher, batch):
        taps = layer_mapping.taps(self.layers, student, teacher)
        total = jnp.zeros(())
        for index, (own, other) in enumerate(taps):
            own, other = adapters.to_grid(own), adapters.to_grid(other)
            margin = margin_of(*self._statistics(f"{index}", other, batch["mask"]))
            own = Connector(other.shape[-1], name=f"connector{index}")(own, batch["mask"])
            other = spatial.average_pool(other, own.shape[1:3])
            total = total + SCALE * 2.0 ** (index - len(taps) + 1) * ofd(own, other, margin)
        return total

    def _statistics(self, name, x, mask):
        """The teacher's mean and deviation, `[channels]` each, with this batch's share in the running averages."""
        weight = (mask > 0).astype(x.dtype).reshape(-1, 1, 1, 1)
        count = jnp.maximum(jnp.sum(weight) * (x.shape[1] * x.shape[2]), 1)
        mean = jnp.sum(jnp.where(weight > 0, x, 0.0), (0, 1, 2)) / count
        spread = (x - mean[None, None, None]) ** 2
        found = mean, jnp.sum(jnp.where(weight > 0, spread, 0.0), (0, 1, 2)) / count
        seen = self.variable("memory", f"batches{name}", lambda: jnp.zeros((), jnp.int32))
        kept = [
            self.variable("memory", f"{what}{name}", lambda: jnp.zeros(x.shape[-1], x.dtype))
            for what in ("mean", "variance")
        ]
        # All batches count alike until there are 1 / (1 - momentum) of them: the start is not a part of the average.
        rate = jnp.maximum(1 / (seen.value + 1), 1 - self.momentum) * jnp.any(mask > 0)
        moved = [old.value + rate.astype(x.dtype) * (new - old.value) for old, new in zip(kept, found, strict=True)]
        if not self.is_initializing() and self.is_mutable_collection("memory"):
            seen.value = seen.value + jnp.any(mask > 0)
            for old, new in zip(kept, moved, strict=True):
                old.value = new
        return moved[0], jnp.sqrt(moved[1])
