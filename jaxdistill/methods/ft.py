"""Factor transfer (FT).

Kim, Park, Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
https://arxiv.org/abs/1802.04977

    loss = mean over elements of |F_t / ||F_t|| - F_s / ||F_s|||^p

The student's translated features match the factors of a paraphraser of the teacher. F_t is the tap `factor` of
`heads.Paraphraser`, an autoencoder on the teacher's last stage, trained first, without labels, by `fitnet` with
adapter=False and layers="reconstruction=stage3". F_s is the translator's, three convolutions on the student's last
stage, which learn with the student. Both are divided by the L2 norm of the whole factor of an example; if their sizes
differ, the larger is averaged to the size of the smaller.

The paper's value is the norm itself, p = 1 or 2. The mean over elements is the authors' code, smaller by their number,
and its weight of 500 goes with it. That code has no batch normalisation (`norm`), and trains the paraphraser by the
absolute and not by the squared error.

Elsewhere: KD-Zoo and MMRazor agree; torchdistill agrees for p = 1, and for others takes the norm. RepDistiller, and so
the numbers of the CRD benchmark, first reduces each factor to a map of attention, the mean of squares over channels
(`maps=2`), and normalises the translator by batch (`norm=True`).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_least
from jaxdistill.losses import distance, spatial
from jaxdistill.methods.at import attention
from jaxdistill.modules import adapters, layer_mapping


def ft(
    student: Float[Array, "batch _ _ _"], teacher: Float[Array, "batch _ _ _"], power: Scalar, maps: int = 0
) -> Float[Array, " batch"]:
    """Compares two normalised factors.

    Args:
        student: `[batch, height, width, channels]`.
        teacher: the same, of any size, and without `maps` of the same channels.
        power: the exponent p.
        maps: if above 0, attention maps are compared instead of F: the mean over channels of |F|^maps.
    """
    student, teacher = spatial.to_smaller(student, teacher)
    if maps:
        student, teacher = attention(student, maps), attention(teacher, maps)
    else:
        student, teacher = (distance.normalize(x.reshape(x.shape[0], -1)) for x in (student, teacher))
    return jnp.mean(jnp.abs(student - teacher) ** power, -1)


def translate(
    x: Float[Array, "batch height width _"], channels: int, name: str, mask: Float[Array, " batch"], norm: bool
) -> Float[Array, "batch height width {channels}"]:
    """Maps c channels to k by 3 x 3 convolutions c -> c -> k -> k."""
    return adapters.convolutions(x, (x.shape[3], channels, channels), name=name, mask=mask, normed=norm)


class FT(Method):
    """`power` is p; `norm` adds batch normalisation to the translator; `maps` is that of `ft`."""

    layers: str = "stage3=factor"
    power: Scalar = 1.0
    maps: int = 0
    norm: bool = False
    same_classes = False

    @property
    def needs_whole_batch(self) -> bool:
        return self.norm

    def check(self) -> None:
        check_least("power", self.power, 1)
        check_least("maps", self.maps, 0)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            student_map, teacher_map = adapters.to_grid(student_map), adapters.to_grid(teacher_map)
            channels, mask = teacher_map.shape[3], batch["mask"]
            factor = translate(student_map, channels, name=name, mask=mask, norm=self.norm)
            return ft(factor, teacher_map, self.power, self.maps)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
