"""Correlation congruence: the examples of a batch correlate in the student as they do in the teacher.

Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang, "Correlation Congruence for Knowledge Distillation", ICCV 2019,
https://arxiv.org/abs/1904.01802

    loss = 1 / B^2 || K_s - K_t ||_F^2,    K_ij = sum_{p <= P} exp(-2 gamma) (2 gamma)^p / p! (f_i . f_j)^p

for embeddings f of norm 1: the Taylor expansion, to order P, of the Gaussian kernel exp(-gamma |f_i - f_j|^2). With
kernel="bilinear" K_ij = f_i . f_j. gamma and P are the paper's. Widths may differ. An example's value is its row, times
B, so that the mean over examples is the loss.

Elsewhere: KD-Zoo agrees. torchdistill takes the norm without squaring it, of embeddings that are not normalised, though
the expansion is that of unit vectors. RepDistiller's loss, which it had from the authors, is another statistic: the
mean, over neighbours in the batch, of the inner product of |f_s - f_t| after a learned linear map of each network; it
depends on the order of the batch.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.losses import distance, relation
from jaxdistill.modules import layer_mapping

KERNELS = ("gaussian", "bilinear")


def correlations(
    x: jax.Array, mask: jax.Array, kernel: str, gamma: float, order: int, normalize: bool = True
) -> jax.Array:
    """Returns the kernel matrix `[batch, batch]` of embeddings `[batch, ...]`, of norm 1 if `normalize`."""
    x = relation.rows(x, mask)
    products = relation.gram(distance.normalize(x) if normalize else x)
    if kernel == "bilinear":
        return products
    weights = [jnp.exp(-2 * gamma) * (2 * gamma) ** power / math.factorial(power) for power in range(order + 1)]
    return jnp.polyval(jnp.stack(weights[::-1]).astype(products.dtype), products)


def cc(student: jax.Array, teacher: jax.Array, mask: jax.Array, kernel: str, gamma: float, order: int) -> jax.Array:
    """Returns `[batch]` for embeddings `[batch, ...]`; the mean over the rows of the mask is the loss."""
    own, other = (correlations(x, mask, kernel, gamma, order) for x in (student, teacher))
    return relation.share((own - other) ** 2, mask)


class CC(Method):
    """`kernel` is "gaussian", with its `gamma` and the `order` of its expansion, or "bilinear"."""

    layers: str = "pooled"
    kernel: str = "gaussian"
    gamma: float = 0.4
    order: int = 2
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self):
        if self.kernel not in KERNELS:
            raise unknown("kernel", self.kernel, KERNELS)
        if not 0 < self.gamma < float("inf"):
            raise UserError(f"gamma={self.gamma} makes no sense; it is greater than 0 and finite")
        check_least("order", self.order, 1)

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            return cc(own, other, batch["mask"], self.kernel, self.gamma, self.order)

        return layer_mapping.over(self, student, teacher, loss)
