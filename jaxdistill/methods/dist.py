"""DIST: predictions correlate with the teacher's, over the classes of each example and over the examples of each class.

Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
https://arxiv.org/abs/2205.10536

    loss = T^2 [beta (1 - mean_i r(p_i, q_i)) + gamma (1 - mean_k r(p_.k, q_.k))]

r is Pearson's correlation, p = softmax(z_t / T), q = softmax(z_s / T), i an example and k a class. beta = gamma = 2 and
T = 4 are the authors' for CIFAR-100 (T = 1 for ImageNet); T^2 is in their code. r is 0 where either side is constant,
as a column is in a batch of one, and has no gradient there. So the loss at the teacher is that of its constant columns.

Elsewhere: the authors and MMRazor add eps = 1e-8 to the product of the norms, torchdistill raises each norm to at least
that (`clamp`), which matters where a row is nearly one-hot. The authors' segmentation code has no T.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, precise
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import distance


def pearson(
    left: jax.Array, right: jax.Array, weight: jax.Array, axis: int, eps: float, clamp: bool = False
) -> jax.Array:
    """Returns Pearson's correlation along `axis`, which it removes.

    Args:
        left, right: arrays of one shape.
        weight: 0 or 1, broadcastable to them: what counts.
        axis: of the numbers that are correlated.
        eps: added to the product of the two norms; or, with `clamp`, the least that each of them may be.
        clamp: which of the two.
    """
    weight = jnp.broadcast_to(weight, left.shape).astype(left.dtype)
    count = jnp.maximum(jnp.sum(weight, axis, keepdims=True), 1.0)
    left, right = (weight * (x - jnp.sum(weight * x, axis, keepdims=True) / count) for x in (left, right))
    sizes = distance.norm(left, axis), distance.norm(right, axis)
    there = sizes[0] * sizes[1] > 0
    scale = jnp.maximum(sizes[0], eps) * jnp.maximum(sizes[1], eps) if clamp else sizes[0] * sizes[1] + eps
    return jnp.where(there, jnp.sum(left * right, axis) / jnp.where(there, scale, 1.0), 0.0)


def dist(
    student: jax.Array, teacher: jax.Array, mask: jax.Array, temperature: float, eps: float = 1e-8, clamp: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Returns 1 - r over the classes of each example, `[n]`, and 1 - the mean of r over the classes, a scalar.

    Args:
        student: `[n, classes]`, logits.
        teacher: `[n, classes]`, logits.
        mask: `[n]`, the examples that count.
        temperature: divides both.
        eps: as in `pearson`.
        clamp: as in `pearson`.
    """
    mask = mask[:, None] > 0
    p, q = (jax.nn.softmax(jnp.where(mask, precise(x), 0.0) / temperature) for x in (teacher, student))
    inter = 1 - pearson(q, p, jnp.ones_like(mask), -1, eps, clamp)
    return inter, 1 - jnp.mean(pearson(q, p, mask, 0, eps, clamp))


class DIST(Method):
    """`beta` weighs the correlation over classes, `gamma` the one over examples; pixels are examples."""

    beta: float = 2.0
    gamma: float = 2.0
    temperature: float = 4.0
    needs_whole_batch = True

    def check(self):
        check_positive("temperature", self.temperature)
        check_least("beta", self.beta, 0)
        check_least("gamma", self.gamma, 0)

    def __call__(self, student, teacher, batch):
        *shape, classes = student.logits.shape
        mask = batch["mask"].reshape(-1, *[1] * (len(shape) - 1))
        rows = [x.logits.reshape(-1, classes) for x in (student, teacher)]
        inter, intra = dist(*rows, jnp.broadcast_to(mask, shape).reshape(-1), self.temperature)
        return self.temperature**2 * (self.beta * inter.reshape(shape) + self.gamma * intra)
