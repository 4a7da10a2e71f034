"""FitNets: the student's middle layer, through a learned regressor, gives the teacher's (a hint).

Romero, Ballas, Kahou, Chassang, Gatta, Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015,
https://arxiv.org/abs/1412.6550

    loss = mean over elements of (r(F_s) - F_t)^2,    added over the pairs of layers

The paper's equation 3 is half the sum: larger than ours by half the number of elements of the teacher's map. The mean
is the CRD benchmark's, and its weight of 100 goes with it. The paper trains the layers up to the hint with this alone,
then all of them with KD; its hint is a middle layer, here the second of three stages, as in the benchmark.

The regressor r is a convolution whose kernel follows from the two sizes (the paper's is the case without padding):

    student twice as large: 3 x 3, stride 2          half as large: transposed, 4 x 4, stride 2
    larger: 1 + s - t, without padding               equal: 1 x 1

and a dense layer between vectors or tokens. `norm` and `relu` put batch normalisation and a ReLU behind it, as the
benchmark does. Without an `adapter` this is the mean squared error of two taps of one shape: of a paraphraser and what
it reconstructs, or of a teacher's principal components.

Elsewhere: RepDistiller and mdistiller agree, with `norm` and `relu`; torchdistill leaves the regressor to the user and
sums where its reduction is "sum"; MMRazor's L2Loss is the sum over elements and mean over the batch unless
`div_element`, and can L2-normalise both features first.
"""

import flax.linen as nn
import jax

from jaxdistill.core import Method
from jaxdistill.errors import UserError
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping


def fitnet(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Returns `[batch]`, the mean squared difference, for two `[batch, ...]` of one shape."""
    return distance.mean_squared(student, teacher)


def regress(
    x: jax.Array,
    target: jax.Array,
    name: str,
    mask: jax.Array,
    norm: bool = False,
    relu: bool = False,
    train: bool = True,
) -> jax.Array:
    """Maps the student's `x` to the shape of the teacher's `target`; called in a compact call, which owns the params.

    Args:
        x: `[batch, height, width, channels]`, or tokens or vectors, `[batch, ..., channels]`.
        name: of the params.
        mask: `[batch]`, the examples that count for `norm`.
    """
    x = _convolved(x, target, name)
    if norm:
        x = adapters.norm(x, mask, name=f"{name}_norm", train=train)
    return nn.relu(x) if relu else x


def _convolved(x: jax.Array, target: jax.Array, name: str) -> jax.Array:
    if x.ndim != 4 or target.ndim != 4:
        return adapters.match(x, target, name)
    channels, have, want = target.shape[3], x.shape[1:3], target.shape[1:3]
    sizes = list(zip(have, want, strict=True))
    if all(own == 2 * other for own, other in sizes):
        return nn.Conv(channels, (3, 3), strides=2, padding=1, name=name)(x)
    if all(2 * own == other for own, other in sizes):
        return nn.ConvTranspose(channels, (4, 4), strides=(2, 2), padding="SAME", name=name)(x)
    if all(own >= other for own, other in sizes):
        kernel = tuple(1 + own - other for own, other in sizes)
        return nn.Conv(channels, kernel, padding="VALID", name=name)(x)
    return adapters.match(x, target, name)


class FitNet(Method):
    """`layers` names the hint; `adapter`, `norm` and `relu` say what is put on the student's side."""

    layers: str = "stage2"
    adapter: bool = True
    norm: bool = False
    relu: bool = False
    same_classes = False

    @property
    def needs_whole_batch(self):
        return self.norm

    def check(self):
        if (self.norm or self.relu) and not self.adapter:
            raise UserError("norm and relu are the adapter's; they make no sense with adapter=False")

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            if self.adapter:
                own = regress(own, other, name, batch["mask"], self.norm, self.relu)
            elif own.shape != other.shape:
                raise UserError(
                    f"{name!r}: the student's {list(own.shape)} and the teacher's {list(other.shape)} are not of one"
                    " shape; set adapter=True"
                )
            return fitnet(own, other)

        return layer_mapping.over(self, student, teacher, loss)
