"""DIST: distillation from a stronger teacher.

Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
https://arxiv.org/abs/2205.10536

    loss = T^2 [beta (1 - mean_i r(p_i, q_i)) + gamma (1 - mean_k r(p_.k, q_.k))]

r is Pearson's correlation, p = softmax(z_t / T), q = softmax(z_s / T), i a prediction and k a class: predictions
correlate with the teacher's over the classes of each, and over the batch for each class. beta = gamma = 2 and T = 4 are
the authors' for CIFAR-100 (T = 1 for ImageNet); T^2 is in their code. r is 0 where either side is constant, as a column
is in a batch of one, and has no gradient there. So the loss at the teacher is that of its constant columns.

Elsewhere: the authors and MMRazor add eps = 1e-8 to the product of the norms, torchdistill raises each norm to at least
that (`clamp`), which matters where a row is nearly one-hot. The authors' segmentation code has no T.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, Shaped

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import distance
from jaxdistill.modules.logits_method import LogitsMethod


def pearson(
    left: Float[Array, "*shape"],
    right: Float[Array, "*shape"],
    weight: Shaped[Array, "..."],
    *,
    axis: int,
    eps: float,
    clamp: bool = False,
) -> Float[Array, "..."]:
    """Returns Pearson's correlation along `axis`, which it removes.

    Args:
        left: numbers to correlate.
        right: the same.
        weight: 0 or 1, broadcastable to them: 1 for those that count.
        axis: of the numbers that are correlated.
        eps: added to the product of the two norms; or, with `clamp`, the lower bound of each.
        clamp: whether `eps` is a bound.
    """
    weight = jnp.broadcast_to(weight, left.shape).astype(left.dtype)
    count = jnp.maximum(jnp.sum(weight, axis, keepdims=True), 1.0)
    left, right = (weight * (x - jnp.sum(weight * x, axis, keepdims=True) / count) for x in (left, right))
    sizes = distance.norm(left, axis), distance.norm(right, axis)
    is_defined = sizes[0] * sizes[1] > 0
    scale = jnp.maximum(sizes[0], eps) * jnp.maximum(sizes[1], eps) if clamp else sizes[0] * sizes[1] + eps
    return jnp.where(is_defined, jnp.sum(left * right, axis) / jnp.where(is_defined, scale, 1.0), 0.0)


def dist(
    student: Float[Array, "n classes"],
    teacher: Float[Array, "n classes"],
    mask: Num[Array, " n"],
    temperature: Scalar,
    *,
    eps: float = 1e-8,
    clamp: bool = False,
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """Returns 1 - r over the classes of each prediction, and 1 - the mean of r over the classes.

    Args:
        student: logits.
        teacher: logits.
        mask: above 0 for the predictions that count.
        temperature: divides both.
        eps: as in `pearson`.
        clamp: as in `pearson`.
    """
    counts = mask[:, None] > 0
    p, q = (jax.nn.softmax(jnp.where(counts, precise(x), 0.0) / temperature) for x in (teacher, student))
    inter = 1 - pearson(q, p, jnp.ones_like(counts), axis=-1, eps=eps, clamp=clamp)
    return inter, 1 - jnp.mean(pearson(q, p, counts, axis=0, eps=eps, clamp=clamp))


class DIST(LogitsMethod):
    """`beta` weighs the correlation over classes, `gamma` the one over predictions."""

    beta: Scalar = 2.0
    gamma: Scalar = 2.0
    temperature: Scalar = 4.0
    needs_whole_batch = True

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)
        check_least("beta", self.beta, 0)
        check_least("gamma", self.gamma, 0)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        *rows, mask, shape = self.flatten(student, teacher, batch)
        inter, intra = dist(*rows, mask, self.temperature)
        return self.temperature**2 * (self.beta * inter.reshape(shape) + self.gamma * intra)
