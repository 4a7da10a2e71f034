"""Overhaul of feature distillation (OFD).

Heo, Kim, Yun, Park, Kwak, Choi, "A Comprehensive Overhaul of Feature Distillation", ICCV 2019,
https://arxiv.org/abs/1904.01866

    loss = 1/1000 sum_i 2^(i - n) sum over elements of (s - t')^2 where s > t' or t > 0,    t' = max(t, m_c)

for layers i = 1 .. n before their ReLU: values that the teacher's ReLU passes are matched, and those that it cuts off
are only bounded. 2^(i - n) and 1/1000 are the authors' code's. s is the student's layer after a learned connector, a 1
x 1 convolution and batch normalisation. The margin m_c = E[t_c | t_c < 0] of each channel is that of a Gaussian of the
teacher's mean and variance; it is -3 deviations if less than 0.1 % lies below 0. A larger map of the teacher's is
averaged to the student's size, as mdistiller does.

The authors take the mean and the variance from the teacher's batch normalisation. A method receives outputs only: it
measures them, batch by batch, and keeps running averages. Both agree if the tap is the output of batch normalisation;
after a residual addition they differ, since the authors' are those of the last branch alone.

Elsewhere: mdistiller agrees; MMRazor weights all layers equally and lets the user divide; KD-Zoo's margin is the mean
of the batch's values below 0, and its loss the mean over elements. The authors' teacher runs in train mode and
normalises by the batch; here it runs in inference mode.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_fraction
from jaxdistill.losses import spatial
from jaxdistill.modules import adapters, layer_mapping

SCALE = 1 / 1000
"""The authors' factor, which brings the sum over elements near the size of a cross-entropy."""


def ofd(
    student: Float[Array, " batch *places channels"],
    teacher: Float[Array, " batch *places channels"],
    margin: Float[Array, " channels"],
) -> Float[Array, " batch"]:
    """Sums the partial squared differences of two pre-activations."""
    target = jnp.maximum(teacher, margin.reshape(*[1] * (teacher.ndim - 1), -1))
    compared = (student > target) | (target > 0)
    return jnp.sum(jnp.where(compared, (student - target) ** 2, 0.0), tuple(range(1, student.ndim)))


def margin_of(mean: Float[Array, " channels"], deviation: Float[Array, " channels"]) -> Float[Array, " channels"]:
    """Returns E[x | x < 0] for x from Gaussians; -3 deviations if P(x < 0) <= 0.001."""
    varies = deviation > 0
    ratio = mean / jnp.where(varies, deviation, 1.0)
    log_below = jax.scipy.special.log_ndtr(-ratio)
    often = log_below > math.log(0.001)
    hazard = jnp.exp(-(ratio**2) / 2 - math.log(2 * math.pi) / 2 - jnp.where(often, log_below, 0.0))
    expected = jnp.where(often, mean - deviation * hazard, -3 * deviation)
    return jnp.where(varies, expected, jnp.minimum(mean, 0.0))


class Connector(nn.Module):
    """A convolution and batch normalisation of the student's map, to the teacher's channels."""

    channels: int
    size: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width _"], mask: Float[Array, " batch"], train: bool = True
    ) -> Float[Array, "batch height width {self.channels}"]:
        x = adapters.conv(self.channels, self.size, name="conv", bias=False)(x)
        return adapters.norm(x, mask, name="norm", train=train)


class OFD(Method):
    """`momentum` is that of the teacher's running statistics; `layers` are taps before a ReLU, the deepest last."""

    layers: str = "stage1/preact,stage2/preact,stage3/preact"
    momentum: Scalar = 0.9
    same_classes = False
    needs_whole_batch = True

    def check(self) -> None:
        layer_mapping.check_paired(self.layers)
        check_fraction("momentum", self.momentum)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        taps = layer_mapping.paired_taps(self.layers, student, teacher)
        total = jnp.zeros(())
        for index, pair in enumerate(taps):
            student_map, teacher_map = (adapters.to_grid(x) for x in pair)
            margin = margin_of(*self._update_statistics(f"{index}", teacher_map, batch["mask"]))
            connector = Connector(teacher_map.shape[-1], name=f"connector{index}")
            student_map = connector(student_map, batch["mask"])
            teacher_map = spatial.average_pool(teacher_map, student_map.shape[1:3])
            total = total + SCALE * 2.0 ** (index - len(taps) + 1) * ofd(student_map, teacher_map, margin)
        return total

    def _update_statistics(
        self, name: str, x: Float[Array, "batch height width channels"], mask: Float[Array, " batch"]
    ) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
        """Returns the running mean and deviation of the teacher's channels, updated by this batch."""
        weight = (mask > 0).astype(x.dtype).reshape(-1, 1, 1, 1)
        count = jnp.maximum(jnp.sum(weight) * (x.shape[1] * x.shape[2]), 1)
        mean = jnp.sum(jnp.where(weight > 0, x, 0.0), (0, 1, 2)) / count
        spread = (x - mean[None, None, None]) ** 2
        measured = mean, jnp.sum(jnp.where(weight > 0, spread, 0.0), (0, 1, 2)) / count
        seen = self.variable("memory", f"batches{name}", lambda: jnp.zeros((), jnp.int32))
        running = [
            self.variable("memory", f"{statistic}{name}", lambda: jnp.zeros(x.shape[-1], x.dtype))
            for statistic in ("mean", "variance")
        ]
        # A plain mean of the first 1 / (1 - momentum) batches: the initial zeros are not a part of the average.
        rate = jnp.maximum(1 / (seen.value + 1), 1 - self.momentum) * jnp.any(mask > 0)
        moved = [
            old.value + rate.astype(x.dtype) * (new - old.value) for old, new in zip(running, measured, strict=True)
        ]
        if not self.is_initializing() and self.is_mutable_collection("memory"):
            seen.value = seen.value + jnp.any(mask > 0)
            for old, new in zip(running, moved, strict=True):
                old.value = new
        return moved[0], jnp.sqrt(moved[1])
