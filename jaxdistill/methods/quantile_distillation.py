"""Quantile distillation.

Dabney, Rowland, Bellemare, Munos, "Distributional Reinforcement Learning with Quantile Regression", AAAI 2018,
https://arxiv.org/abs/1710.10044, equation 10 without the Huber norm, with a teacher in the place of the target network.

    loss = mean over i, j of max(t_i u_ij, (t_i - 1) u_ij)        u_ij = q_t,j - q_s,i,  t_i = (i - 1/2) / Q

The teacher's quantiles are equally likely values of the target, from which the student's are estimated: at the minimum
they are the teacher's in ascending order, if there are as many, and the 1-Wasserstein distance of the two distributions
is least. Of several targets the value is the mean. The minimum is the teacher's own mean absolute spread, not 0.

Elsewhere: implementations of QR-DQN sum over i and smooth the kink by a Huber norm of 1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output
from jaxdistill.losses import regression
from jaxdistill.modules.regression_method import RegressionMethod


class QuantileDistillation(RegressionMethod):
    """The pinball loss of the student's quantiles, with the teacher's as targets; their numbers may differ."""

    same_classes = False
    predictions = ("quantiles",)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        values = regression.quantile_pinball(self.by_target(teacher, batch), self.by_target(student, batch))
        return jnp.mean(values, -1)
