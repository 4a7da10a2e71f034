"""Dynamic temperature distillation.

Wen, Lai, Qian, "Preparing Lessons: Improve Knowledge Distillation with Better Supervision", Neurocomputing 2021,
https://arxiv.org/abs/1911.07471

    loss = T_i^2 KL(softmax(z_t / T_i) || softmax(z_s / T_i)),    T_i = T + beta (mean_j w_j - w_i)
    flsw: w = (1 - cos(z_s, z_t))^gamma        cwsm: w = 1 / max softmax(z_s)

Examples on which the student is confused have a lower temperature, so sharper targets. w and T_i have no gradient; the
mean is over the predictions of the batch. The formula has no lower bound, and T_i can fall to 0 and below it with a
large beta or, in "cwsm", many classes: here it is at least `least`. Besides the benchmark's T these defaults are plain
ones, to be tuned for a dataset. The paper's other half, knowledge adjustment, is not here.

Elsewhere: TextBrewer adds 1e-3 to the greatest probability, as here, 1e-4 to the norms in the cosine, sets no least
temperature, and leaves T_i^2 out, as in all its losses.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_least, check_names, check_positive
from jaxdistill.losses import distance, divergence
from jaxdistill.modules.logits_method import LogitsMethod

RULES = ("flsw", "cwsm")


def flsw(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], gamma: Scalar, eps: float = 1e-4
) -> Float[Array, "*n"]:
    """Returns (1 - cosine)^gamma of logits; `eps` is added to the norms, and a logit of -inf counts as 0."""
    sides = (precise(x) for x in (student, teacher))
    left, right = (distance.normalize(jnp.where(x == -jnp.inf, 0.0, x), eps=eps) for x in sides)
    return jnp.maximum(1 - jnp.sum(left * right, -1), 0.0) ** gamma


def cwsm(student: Float[Array, "*n classes"], eps: float = 1e-3) -> Float[Array, "*n"]:
    """Returns 1 / (greatest probability + eps) of logits."""
    return 1 / (jnp.max(jax.nn.softmax(precise(student)), -1) + eps)


def temperatures(
    weight: Float[Array, " n"], mask: Num[Array, " n"], temperature: Scalar, beta: Scalar
) -> Float[Array, " n"]:
    """Returns T_i, without a gradient; the mean of the weights is over those that `mask` keeps."""
    counted = jnp.where(mask > 0, weight, 0.0)
    mean = jnp.sum(counted) / jnp.maximum(jnp.sum(mask > 0), 1).astype(counted.dtype)
    return jax.lax.stop_gradient(temperature + beta * (mean - counted))


class AdaptiveTemperature(LogitsMethod):
    """`rule` is "flsw" or "cwsm"; `temperature` is the mean, `least` the lower bound."""

    rule: str = "flsw"
    temperature: Scalar = 4.0
    beta: Scalar = 1.0
    gamma: Scalar = 1.0
    least: Scalar = 1.0
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_names("rule of temperatures", [self.rule], RULES)
        for name in ("temperature", "gamma", "least"):
            check_positive(name, getattr(self, name))
        check_least("beta", self.beta, 0)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        student, teacher, mask, shape = self.flatten(student, teacher, batch)
        weight = flsw(student, teacher, self.gamma) if self.rule == "flsw" else cwsm(student)
        scale = jnp.maximum(temperatures(weight, mask, self.temperature, self.beta), self.least)
        kl = divergence.kl(precise(teacher) / scale[..., None], precise(student) / scale[..., None])
        return (scale**2 * kl).reshape(shape)
