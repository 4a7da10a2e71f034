"""Correlation congruence for knowledge distillation (CCKD).

Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang, "Correlation Congruence for Knowledge Distillation", ICCV 2019,
https://arxiv.org/abs/1904.01802

    loss = 1 / B^2 || K_s - K_t ||_F^2,    K_ij = sum_{p <= P} exp(-2 gamma) (2 gamma)^p / p! (f_i . f_j)^p

for embeddings f of norm 1: the correlations of the examples of a batch match. K is the Taylor expansion, to order P, of
the Gaussian kernel exp(-gamma |f_i - f_j|^2). With kernel="bilinear" K_ij = f_i . f_j. gamma and P are the paper's.
Widths may differ. An example's value is its row, times B, so that the mean over examples is the loss.

Elsewhere: KD-Zoo agrees. torchdistill takes the norm without squaring it, of embeddings that are not normalised, though
the expansion is that of unit vectors. RepDistiller's loss, received from the authors, is another statistic: the mean,
over neighbours in the batch, of the inner product of |f_s - f_t| after a learned linear map of each network; it depends
on the order of the batch.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_least, check_positive, unknown
from jaxdistill.losses import distance, relation
from jaxdistill.modules import layer_mapping

KERNELS = ("gaussian", "bilinear")


def correlations(
    x: Float[Array, " batch *shape"],
    mask: Float[Array, " batch"],
    kernel: str,
    gamma: Scalar,
    order: int,
    normalize: bool = True,
) -> Float[Array, "batch batch"]:
    """Returns the kernel matrix of embeddings, which `normalize` divides by their norms."""
    x = relation.rows(x, mask)
    products = relation.gram(distance.normalize(x) if normalize else x)
    if kernel == "bilinear":
        return products
    weights = [jnp.exp(-2 * gamma) * (2 * gamma) ** power / math.factorial(power) for power in range(order + 1)]
    return jnp.polyval(jnp.stack(weights[::-1]).astype(products.dtype), products)


def cc(
    student: Float[Array, " batch *student_shape"],
    teacher: Float[Array, " batch *teacher_shape"],
    mask: Float[Array, " batch"],
    kernel: str,
    gamma: Scalar,
    order: int,
) -> Float[Array, " batch"]:
    """Returns each example's part of the loss, which is the mean over the rows of the mask."""
    student_kernel, teacher_kernel = (
        correlations(x, mask, kernel, gamma=gamma, order=order) for x in (student, teacher)
    )
    return relation.row_means((student_kernel - teacher_kernel) ** 2, mask)


class CC(Method):
    """`kernel` is "gaussian", with its `gamma` and the `order` of its expansion, or "bilinear"."""

    layers: str = "pooled"
    kernel: str = "gaussian"
    gamma: Scalar = 0.4
    order: int = 2
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self) -> None:
        if self.kernel not in KERNELS:
            raise unknown("kernel", self.kernel, KERNELS, "a kernel")
        check_positive("gamma", self.gamma)
        check_least("order", self.order, 1)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_features: Array, teacher_features: Array, name: str) -> Array:
            settings = {"kernel": self.kernel, "gamma": self.gamma, "order": self.order}
            return cc(student_features, teacher_features, batch["mask"], **settings)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
