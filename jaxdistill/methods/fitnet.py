"""FitNets: hint-based training.

Romero, Ballas, Kahou, Chassang, Gatta, Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015,
https://arxiv.org/abs/1412.6550

    loss = mean over elements of (r(F_s) - F_t)^2,    added over the pairs of layers

A learned regressor r maps the student's middle layer to the teacher's, the hint. The paper's equation 3 is half the
sum: larger than ours by half the number of elements of the teacher's map. The mean is the CRD benchmark's, and its
weight of 100 goes with it. The paper trains the layers up to the hint with this alone, then all of them with KD; its
hint is a middle layer, here the second of three stages, as in the benchmark.

The regressor r is a convolution whose kernel follows from the two sizes (the paper's is the case without padding):

    student twice as large: 3 x 3, stride 2          half as large: transposed, 4 x 4, stride 2
    larger: 1 + s - t, without padding               equal: 1 x 1

and a dense layer between vectors or tokens. `norm` and `relu` add batch normalisation and a ReLU after it, as the
benchmark does. Without an `adapter` this is the mean squared error of two taps of one shape, such as a map and its
reconstruction by a paraphraser, or a teacher's principal components.

Elsewhere: RepDistiller and mdistiller agree, with `norm` and `relu`; torchdistill leaves the regressor to the user and
sums if its reduction is "sum"; MMRazor's L2Loss is the sum over elements and mean over the batch unless `div_element`,
and can L2-normalise both features first.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import UserError
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping


def fitnet(student: Float[Array, " batch *shape"], teacher: Float[Array, " batch *shape"]) -> Float[Array, " batch"]:
    """Returns the mean squared difference over the elements of each example."""
    return distance.mean_squared(student, teacher)


def regress(
    x: Float[Array, " batch *student_shape"],
    target: Float[Array, " batch *teacher_shape"],
    name: str,
    mask: Float[Array, " batch"],
    norm: bool = False,
    relu: bool = False,
    train: bool = True,
) -> Float[Array, " batch *teacher_shape"]:
    """Maps the student's `x` to the shape of the teacher's `target`, inside a compact call that holds the params.

    Args:
        x: `[batch, height, width, channels]`, or tokens or vectors, `[batch, ..., channels]`.
        target: the same, of another shape.
        name: name of the params.
        mask: 1 for the examples that count for `norm`.
        norm: whether batch normalisation follows.
        relu: whether a ReLU follows.
        train: whether to normalise by the batch.
    """
    x = _convolve(x, target, name)
    if norm:
        x = adapters.norm(x, mask, name=f"{name}_norm", train=train)
    return nn.relu(x) if relu else x


def _convolve(x: Array, target: Array, name: str) -> Array:
    if x.ndim != 4 or target.ndim != 4:
        return adapters.match(x, target, name)
    channels, sizes = target.shape[3], list(zip(x.shape[1:3], target.shape[1:3], strict=True))
    if all(s == 2 * t for s, t in sizes):
        return nn.Conv(channels, (3, 3), strides=2, padding=1, name=name)(x)
    if all(2 * s == t for s, t in sizes):
        return nn.ConvTranspose(channels, (4, 4), strides=(2, 2), padding="SAME", name=name)(x)
    if all(s >= t for s, t in sizes):
        kernel = tuple(1 + s - t for s, t in sizes)
        return nn.Conv(channels, kernel, padding="VALID", name=name)(x)
    return adapters.match(x, target, name)


class FitNet(Method):
    """`layers` names the hint; `adapter`, `norm` and `relu` are applied to the student's side."""

    layers: str = "stage2"
    adapter: bool = True
    norm: bool = False
    relu: bool = False
    same_classes = False

    @property
    def needs_whole_batch(self) -> bool:
        return self.norm

    def check(self) -> None:
        if (self.norm or self.relu) and not self.adapter:
            raise UserError("norm and relu must be False with adapter=False; they are parts of the adapter")

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            if self.adapter:
                mask = batch["mask"]
                student_map = regress(student_map, teacher_map, name, mask, norm=self.norm, relu=self.relu)
            elif student_map.shape != teacher_map.shape:
                raise UserError(
                    f"{name!r}: the student's {list(student_map.shape)} and the teacher's {list(teacher_map.shape)}"
                    " must be of one shape; set adapter=True"
                )
            return fitnet(student_map, teacher_map)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
