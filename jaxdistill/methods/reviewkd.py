"""Knowledge review (ReviewKD).

Chen, Liu, Zhao, Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021, https://arxiv.org/abs/2104.09044

    loss = sum_i HCL(U_i, T_i),    HCL(U, T) = sum_k 2^-k mean (P_k U - P_k T)^2 / sum_k 2^-k

U_i is the fusion (the paper's ABF) of the student's stage i with the fusion of the deeper stages: both at one width,
mixed by a learned weight for each pixel, then convolved to the teacher's channels. P_k is average pooling: none for k =
0, then to 4 x 4, 2 x 2 and 1 x 1, only to sizes below that of the map (the paper's hierarchical context loss).
mdistiller weights it with 5 on CIFAR-100, and with 1 (ResNet-18) or 8 (MobileNet) on ImageNet, linearly warmed up over
the first 20 epochs.

`width` bounds the width of the fusion, which is that of the student's deepest layer. A vector becomes a map of one
place.

Elsewhere: mdistiller agrees. torchdistill's HCL takes the pool sizes and the reduction of each term from its config.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import check_least
from jaxdistill.losses import spatial
from jaxdistill.modules import adapters, layer_mapping

SIZES = (4, 2, 1)
Map = Float[Array, "batch height width channels"]


def levels(
    student: Map, teacher: Map, sizes: Sequence[int] = SIZES
) -> list[tuple[float, Float[Array, "batch _ _ channels"]]]:
    """Returns the levels of HCL: pairs of a weight, which sum to 1, and the squared differences."""
    pairs = [(student, teacher)]
    pairs += [tuple(spatial.average_pool(x, (k, k)) for x in pairs[0]) for k in sizes if k < student.shape[1]]
    total = sum(0.5**index for index in range(len(pairs)))
    return [(0.5**index / total, (s - t) ** 2) for index, (s, t) in enumerate(pairs)]


def hcl(student: Map, teacher: Map, sizes: Sequence[int] = SIZES) -> Float[Array, " batch"]:
    """Returns the hierarchical context loss."""
    return sum(weight * jnp.mean(squares, (1, 2, 3)) for weight, squares in levels(student, teacher, sizes))


class Fusion(nn.Module):
    """Attention-based fusion of a stage with the fusion of the deeper stages, which is `None` for the deepest.

    Returns the map that is compared with the teacher's, `[batch, *size, channels]`, and the `deeper` input of the stage
    before, `[batch, *size, width]`.
    """

    width: int
    channels: int
    size: tuple[int, int]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch _ _ _"],
        deeper: Float[Array, "batch _ _ {self.width}"] | None,
        mask: Float[Array, " batch"],
        train: bool = True,
    ) -> tuple[Float[Array, "batch _ _ {self.channels}"], Float[Array, "batch _ _ {self.width}"]]:
        x = self._convolve(x, self.width, size=1, name="1", mask=mask, train=train)
        if deeper is not None:
            deeper = spatial.resize(deeper, x.shape[1:3], "nearest")
            both = jnp.concatenate([x, deeper], -1)
            weight = jax.nn.sigmoid(adapters.conv(2, 1, name="attention")(both))
            x = x * weight[..., :1] + deeper * weight[..., 1:]
        x = spatial.resize(x, self.size, "nearest")
        return self._convolve(x, self.channels, size=3, name="2", mask=mask, train=train), x

    def _convolve(self, x: Array, channels: int, *, size: int, name: str, mask: Array, train: bool) -> Array:
        x = adapters.conv(channels, size, name=f"conv{name}", bias=False)(x)
        return adapters.norm(x, mask, name=f"norm{name}", train=train)


def _to_map(x: Float[Array, " batch *shape"]) -> Float[Array, "batch _ _ _"]:
    return x[:, None, None] if x.ndim == 2 else adapters.to_grid(x)


class ReviewKD(Method):
    """`layers` are from shallow to deep; `width` is the largest width of the fusion."""

    layers: str = "stage1/preact,stage2/preact,stage3/preact,pooled"
    width: int = 512
    same_classes = False
    needs_whole_batch = True

    def check(self) -> None:
        layer_mapping.check_paired(self.layers)
        check_least("width", self.width, 1)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        taps = [(_to_map(s), _to_map(t)) for s, t in layer_mapping.paired_taps(self.layers, student, teacher)]
        width = min(self.width, taps[-1][0].shape[-1])
        total, deeper = jnp.zeros(()), None
        for index, (student_map, teacher_map) in reversed([*enumerate(taps)]):
            _, *size, channels = teacher_map.shape
            fused, deeper = Fusion(width, channels, tuple(size), name=f"fusion{index}")(
                student_map, deeper, batch["mask"]
            )
            total = total + hcl(fused, teacher_map)
        return total
