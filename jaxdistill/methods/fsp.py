"""Flow of the solution procedure: how features turn from one layer into the next.

Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning",
CVPR 2017,
https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html

    loss = mean over entries of (G_s - G_t)^2,    G = mean over places of F_i F_{i+1}^T

added over consecutive layers. The paper's is the sum over entries, larger by their number, the product of the two
layers' channels; it pools the larger of the two layers by its maximum, where the CRD benchmark averages (`pooling`).
Its pairs are the first and last layer of each section of a ResNet; consecutive stages are the benchmark's. Both
networks need layers of equal width: where they are not, a learned 1 x 1 convolution widens the student's.

Elsewhere: RepDistiller and KD-Zoo average both over entries and in the pooling, and refuse unequal widths. torchdistill
takes the maximum and adds up, over one layer's channels, the norms over the other's: not squared.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError, unknown
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping

POOLING = {"max": spatial.max_pool, "average": spatial.average_pool}


def flow(first: jax.Array, second: jax.Array, pooling: str) -> jax.Array:
    """Returns `[batch, channels, channels2]` for `[batch, height, width, channels]` and the like of another size."""
    first, second = spatial.to_smaller(first, second, POOLING[pooling])
    places = first.shape[1] * first.shape[2]
    return jnp.einsum("bhwc,bhwd->bcd", first, second, precision="highest") / places


def fsp(student: list[jax.Array], teacher: list[jax.Array], pooling: str) -> jax.Array:
    """Returns `[batch]` for the maps of consecutive layers, `[batch, height, width, channels]`, of equal channels."""
    total = jnp.zeros(())
    for index in range(len(student) - 1):
        own, other = (flow(maps[index], maps[index + 1], pooling) for maps in (student, teacher))
        total = total + distance.mean_squared(own, other)
    return total


class FSP(Method):
    """`layers` in their order, at least two; `pooling` brings two of them to one size: "max" or "average"."""

    layers: str = "stem,stage1,stage2,stage3"
    pooling: str = "max"
    same_classes = False
    zero_at_teacher = True

    def check(self):
        layer_mapping.check_paired(self.layers)
        if self.pooling not in POOLING:
            raise unknown("pooling", self.pooling, POOLING)

    @nn.compact
    def __call__(self, student, teacher, batch):
        taps = layer_mapping.taps(self.layers, student, teacher)
        if len(taps) < 2:
            raise UserError(f"layers={self.layers!r} is one pair; a flow is between two layers, 'stage1,stage2'")
        own, other = ([adapters.to_grid(x) for x in side] for side in zip(*taps, strict=True))
        for index, (mine, theirs) in enumerate(zip(own, other, strict=True)):
            if mine.shape[3] != theirs.shape[3]:
                own[index] = adapters.conv(theirs.shape[3], 1, name=f"layer{index}")(mine)
        return fsp(own, other, self.pooling)
