"""Knowledge review: the student's deep layers join its shallow ones before these meet the teacher's.

Chen, Liu, Zhao, Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021, https://arxiv.org/abs/2104.09044

    loss = sum_i HCL(U_i, T_i),    HCL(U, T) = sum_k 2^-k mean (P_k U - P_k T)^2 / sum_k 2^-k

U_i is the fusion (the paper's ABF) of the student's stage i and of what was fused of the stages behind it: both at one
width, mixed by a learned weight for each pixel, then convolved to the teacher's channels. P_k is average pooling: none
for k = 0, then to 4 x 4, 2 x 2 and 1 x 1, those alone that are smaller than the map (the paper's hierarchical context
loss). mdistiller weighs it with 5 on CIFAR-100, and with 1 (ResNet-18) or 8 (MobileNet) on ImageNet, linearly warmed
up over the first 20 epochs.

`width` bounds the width of the fusion, which is that of the student's deepest layer. A vector is a map of one place.

Elsewhere: mdistiller agrees. torchdistill's HCL takes the pool sizes and the reduction of each term from its config.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import check_least
from jaxdistill.losses import spatial
from jaxdistill.modules import adapters, layer_mapping

SIZES = (4, 2, 1)


def levels(student: jax.Array, teacher: jax.Array, sizes=SIZES) -> list[tuple[float, jax.Array]]:
    """Returns the levels of HCL, (weight, squared differences `[batch, k, k, channels]`); the weights add up to 1."""
    pairs = [(student, teacher)]
    pairs += [tuple(spatial.average_pool(x, (k, k)) for x in pairs[0]) for k in sizes if k < student.shape[1]]
    total = sum(0.5**index for index in range(len(pairs)))
    return [(0.5**index / total, (own - other) ** 2) for index, (own, other) in enumerate(pairs)]


def hcl(student: jax.Array, teacher: jax.Array, sizes=SIZES) -> jax.Array:
    """The hierarchical context loss of two `[batch, height, width, channels]`: `[batch]`."""
    return sum(weight * jnp.mean(squares, (1, 2, 3)) for weight, squares in levels(student, teacher, sizes))


class Fusion(nn.Module):
    """Attention-based fusion of a stage with what was fused of the deeper ones.

    Returns what is compared with the teacher's map of that `size`, `[batch, *size, channels]`, and what the stage
    before gets as its `deeper`, `[batch, *size, width]`. The deepest stage has `None`.
    """

    width: int
    channels: int
    size: tuple[int, int]

    @nn.compact
    def __call__(self, x: jax.Array, deeper: jax.Array | None, mask: jax.Array, train: bool = True):
        x = self._normed(x, self.width, 1, 1, mask, train)
        if deeper is not None:
            deeper = spatial.resize(deeper, x.shape[1:3], "nearest")
            both = jnp.concatenate([x, deeper], -1)
            share = jax.nn.sigmoid(adapters.conv(2, 1, name="attention")(both))
            x = x * share[..., :1] + deeper * share[..., 1:]
        x = spatial.resize(x, self.size, "nearest")
        return self._normed(x, self.channels, 3, 2, mask, train), x

    def _normed(self, x, channels, size, index, mask, train):
        x = adapters.conv(channels, size, name=f"conv{index}", bias=False)(x)
        return adapters.norm(x, mask, name=f"norm{index}", train=train)


def _map(x):
    return x[:, None, None] if x.ndim == 2 else adapters.to_grid(x)


class ReviewKD(Method):
    """`layers` are from shallow to deep; `width` is the most channels that the fusion has."""

    layers: str = "stage1/preact,stage2/preact,stage3/preact,pooled"
    width: int = 512
    same_classes = False
    needs_whole_batch = True

    def check(self):
        layer_mapping.check_paired(self.layers)
        check_least("width", self.width, 1)

    @nn.compact
    def __call__(self, student, teacher, batch):
        taps = [(_map(own), _map(other)) for own, other in layer_mapping.taps(self.layers, student, teacher)]
        width = min(self.width, taps[-1][0].shape[-1])
        total, deeper = jnp.zeros(()), None
        for index, (own, other) in reversed([*enumerate(taps)]):
            fusion = Fusion(width, other.shape[-1], other.shape[1:3], name=f"fusion{index}")
            fused, deeper = fusion(own, deeper, batch["mask"])
            total = total + hcl(fused, other)
        return total
