"""Flow of the solution procedure (FSP).

Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning",
CVPR 2017,
https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html

    loss = mean over entries of (G_s - G_t)^2,    G = mean over places of F_i F_{i+1}^T

added over consecutive layers: the Gram matrices G of two layers, their flow, match. The paper's is the sum over
entries, larger by their number, the product of the two layers' channels; it pools the larger of the two layers by its
maximum, where the CRD benchmark averages (`pooling`). Its pairs are the first and last layer of each section of a
ResNet; consecutive stages are the benchmark's. Both networks need layers of equal width: if the widths differ, a
learned 1 x 1 convolution gives the student's the teacher's.

Elsewhere: RepDistiller and KD-Zoo average both over entries and in the pooling, and refuse unequal widths. torchdistill
takes the maximum and adds up, over one layer's channels, the norms over the other's: not squared.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import UserError, unknown
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping

POOLING = {"max": spatial.max_pool, "average": spatial.average_pool}


def flow(
    first: Float[Array, "batch _ _ channels"], second: Float[Array, "batch _ _ channels2"], pooling: str
) -> Float[Array, "batch channels channels2"]:
    """Returns G of two maps; `pooling` brings them to one size."""
    first, second = spatial.to_smaller(first, second, POOLING[pooling])
    places = first.shape[1] * first.shape[2]
    return jnp.einsum("bhwc,bhwd->bcd", first, second, precision="highest") / places


def fsp(
    student: Sequence[Float[Array, "batch _ _ _"]], teacher: Sequence[Float[Array, "batch _ _ _"]], pooling: str
) -> Float[Array, " batch"]:
    """Compares the flows between consecutive layers, which have equal channels on both sides."""
    total = jnp.zeros(())
    for index in range(len(student) - 1):
        student_flow, teacher_flow = (flow(maps[index], maps[index + 1], pooling) for maps in (student, teacher))
        total = total + distance.mean_squared(student_flow, teacher_flow)
    return total


class FSP(Method):
    """`layers` in their order, at least two; `pooling` brings two of them to one size: "max" or "average"."""

    layers: str = "stem,stage1,stage2,stage3"
    pooling: str = "max"
    same_classes = False
    zero_at_teacher = True

    def check(self) -> None:
        layer_mapping.check_paired(self.layers)
        if self.pooling not in POOLING:
            raise unknown("pooling", self.pooling, POOLING, "a kind of pooling")

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        taps = layer_mapping.paired_taps(self.layers, student, teacher)
        if len(taps) < 2:
            raise UserError(
                f"layers must name two pairs or more, got {self.layers!r}, which is one; a flow is between layers,"
                " such as 'stage1,stage2'"
            )
        student_maps, teacher_maps = ([adapters.to_grid(x) for x in side] for side in zip(*taps, strict=True))
        for index, (s, t) in enumerate(zip(student_maps, teacher_maps, strict=True)):
            if s.shape[3] != t.shape[3]:
                student_maps[index] = adapters.conv(t.shape[3], 1, name=f"layer{index}")(s)
        return fsp(student_maps, teacher_maps, self.pooling)
