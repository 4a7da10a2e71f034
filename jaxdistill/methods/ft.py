"""Factor transfer: the student translates its features into the factors of a paraphrase of the teacher's.

Kim, Park, Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
https://arxiv.org/abs/1802.04977

    loss = mean over elements of |F_t / ||F_t|| - F_s / ||F_s|||^p

F_t is the tap `factor` of `heads.Paraphraser`, an autoencoder on the teacher's last stage, trained first, without
labels, by `fitnet` with adapter=False and layers="reconstruction=stage3". F_s is the translator's, three convolutions
on the student's last stage, which learn with the student. Both are divided by the L2 norm of the whole factor of an
example; where they are of two sizes, the larger is averaged to the size of the smaller.

The paper's is the norm itself, p = 1 or 2. The mean over elements is the authors' code, smaller by their number, and
its weight of 500 goes with it. That code has no batch normalisation (`norm`), and trains the paraphraser by the
absolute and not by the squared error.

Elsewhere: KD-Zoo and MMRazor agree; torchdistill agrees for p = 1, and for others takes the norm. RepDistiller, and so
the numbers of the CRD benchmark, first reduces each factor to a map of attention, the mean of squares over channels
(`maps=2`), and normalises the translator by batch (`norm=True`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import check_least
from jaxdistill.losses import distance, spatial
from jaxdistill.methods.at import attention
from jaxdistill.modules import adapters, layer_mapping


def ft(student: jax.Array, teacher: jax.Array, power: float, maps: int = 0) -> jax.Array:
    """Returns `[batch]` for two factors, `[batch, height, width, channels]`.

    With `maps` > 0 their maps of attention are compared, the mean over channels of |F|^maps, in the place of all of F.
    """
    student, teacher = spatial.to_smaller(student, teacher)
    if maps:
        student, teacher = attention(student, maps), attention(teacher, maps)
    else:
        student, teacher = (distance.normalize(x.reshape(x.shape[0], -1)) for x in (student, teacher))
    return jnp.mean(jnp.abs(student - teacher) ** power, -1)


def translate(x: jax.Array, channels: int, name: str, mask: jax.Array, norm: bool) -> jax.Array:
    """Maps `[batch, height, width, c]` to `[batch, height, width, channels]` by 3 x 3 convolutions c -> c -> k -> k."""
    return adapters.convolutions(x, (x.shape[3], channels, channels), name=name, mask=mask, normed=norm)


class FT(Method):
    """`power` is p; `norm` puts batch normalisation into the translator; `maps` is that of `ft`."""

    layers: str = "stage3=factor"
    power: float = 1.0
    maps: int = 0
    norm: bool = False
    same_classes = False

    @property
    def needs_whole_batch(self):
        return self.norm

    def check(self):
        check_least("power", self.power, 1)
        check_least("maps", self.maps, 0)

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            own, other = adapters.to_grid(own), adapters.to_grid(other)
            return ft(translate(own, other.shape[3], name, batch["mask"], self.norm), other, self.power, self.maps)

        return layer_mapping.over(self, student, teacher, loss)
