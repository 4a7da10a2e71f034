"""Dynamic temperature: examples on which the student is confused are taught with a lower temperature, so more sharply.

Wen, Lai, Qian, "Preparing Lessons: Improve Knowledge Distillation with Better Supervision", Neurocomputing 2021,
https://arxiv.org/abs/1911.07471

    loss = T_i^2 KL(softmax(z_t / T_i) || softmax(z_s / T_i)),    T_i = T + beta (mean_j w_j - w_i)
    flsw: w = (1 - cos(z_s, z_t))^gamma        cwsm: w = 1 / max softmax(z_s)

w and T_i have no gradient; the mean is over the examples of the batch. The formula has no lower bound, and T_i can
fall to 0 and below it with a large beta or, in "cwsm", many classes: here it is at least `least`. Besides the
benchmark's T these defaults are plain ones, to be tuned for a dataset. The paper's other half, knowledge adjustment,
is not here.

Elsewhere: TextBrewer adds 1e-3 to the greatest probability, as here, 1e-4 to the norms in the cosine, sets no least
temperature, and leaves T_i^2 out, as in all its losses.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, precise
from jaxdistill.errors import check_least, check_names, check_positive
from jaxdistill.losses import distance, divergence

RULES = ("flsw", "cwsm")


def flsw(student: jax.Array, teacher: jax.Array, gamma: float, eps: float = 1e-4) -> jax.Array:
    """Returns (1 - cosine)^gamma of logits, `[*n, classes]` to `[*n]`; `eps` is added to the norms."""
    left, right = (distance.normalize(precise(x), eps=eps) for x in (student, teacher))
    return jnp.maximum(1 - jnp.sum(left * right, -1), 0.0) ** gamma


def cwsm(student: jax.Array, eps: float = 1e-3) -> jax.Array:
    """Returns 1 / (greatest probability + eps) of logits, `[*n, classes]` to `[*n]`."""
    return 1 / (jnp.max(jax.nn.softmax(precise(student)), -1) + eps)


def temperatures(weight: jax.Array, mask: jax.Array, temperature: float, beta: float) -> jax.Array:
    """Returns T_i, `[n]`, without a gradient, for weights `[n]`; the mean is over those that `mask` keeps."""
    kept = jnp.where(mask > 0, weight, 0.0)
    mean = jnp.sum(kept) / jnp.maximum(jnp.sum(mask > 0), 1).astype(kept.dtype)
    return jax.lax.stop_gradient(temperature + beta * (mean - kept))


class AdaptiveTemperature(Method):
    """`rule` is "flsw" or "cwsm"; `temperature` is the mean, `least` the least of an example."""

    rule: str = "flsw"
    temperature: float = 4.0
    beta: float = 1.0
    gamma: float = 1.0
    least: float = 1.0
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self):
        check_names("rule of temperatures", [self.rule], RULES)
        for name in ("temperature", "gamma", "least"):
            check_positive(name, getattr(self, name))
        check_least("beta", self.beta, 0)

    def __call__(self, student, teacher, batch):
        own, other = student.logits, teacher.logits
        weight = flsw(own, other, self.gamma) if self.rule == "flsw" else cwsm(own)
        mask = jnp.broadcast_to(batch["mask"].reshape(-1, *[1] * (weight.ndim - 1)), weight.shape)
        found = jnp.maximum(temperatures(weight, mask, self.temperature, self.beta), self.least)
        return found**2 * divergence.kl(precise(other) / found[..., None], precise(own) / found[..., None])
