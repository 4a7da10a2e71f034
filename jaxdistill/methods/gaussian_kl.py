"""Gaussian knowledge distillation.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning Workshop,
https://arxiv.org/abs/1503.02531, its divergence, here between Gaussians instead of distributions over classes.

    loss = KL(N(m_t, v_t) || N(m_s, v_s)) = 1/2 [v_t / v_s - log(v_t / v_s) + (m_t - m_s)^2 / v_s - 1]

Both networks output the mean m and the log variance log v of a standardised target, in nats. The student learns the
teacher's uncertainty with its mean, from examples without a target too. There is no temperature: a Gaussian has no
dark knowledge beyond these two numbers. Of several targets the value is the mean.

Elsewhere: `torch.distributions.kl_divergence` of two `Normal`s is the same. Distillation of regression often compares
the means alone (`logit_regression`).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output
from jaxdistill.losses import regression
from jaxdistill.modules.regression_method import RegressionMethod


class GaussianKL(RegressionMethod):
    """The KL from the teacher's Gaussian to the student's."""

    zero_at_teacher = True
    predictions = ("gaussian",)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        values = regression.gaussian_kl(self.by_target(teacher, batch), self.by_target(student, batch))
        return jnp.mean(values, -1)
