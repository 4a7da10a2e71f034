"""Sampled KL.

Gu, Dong, Wei, Huang, "MiniLLM: Knowledge Distillation of Large Language Models", ICLR 2024, equations 1 to 3,
https://arxiv.org/abs/2306.08543; Schulman, "Approximating KL Divergence", 2020,
http://joschu.net/blog/kl-approx.html, for the names of the estimators; Lu & Thinking Machines Lab, "On-Policy
Distillation", 2025, https://thinkingmachines.ai/blog/on-policy-distillation.

    loss = r,  r = log q(y) - log p(y),  with gradient r grad log q(y)    (k1; p teacher, q student, y drawn from q)
    loss = exp(-r) - 1 + r,  with its own gradient (1 - exp(-r)) grad log q(y)    (k3)

The tokens y are the student's own (`on_policy`), and only their two probabilities are used. Over draws from q both
values are KL(q || p) in the mean, and k3 is never negative. The gradient of k1 is in the mean that of KL(q || p), since
the mean of grad log q is 0: a policy gradient whose advantage is -r, without a reward or a baseline. That of k3 is in
the mean the gradient of the other direction, KL(p || q), and so biased for the loss whose value it has. With
`per="sequence"` the factor of a token is the sum of its r and those of all later ones in its text: the gradient of the
KL of whole texts.

An exponent of k3 above 60, where exp(-r) leaves float32's range soon, is 60.

Elsewhere: TRL's GRPO differentiates k3 as a penalty, with the direction that follows. MiniLLM adds a mixed-in teacher,
length normalisation and the exact one-step part (`reverse_kl` here). Thinking Machines' recipe is k1 per token.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from jaxdistill.core import Batch, Output
from jaxdistill.errors import UserError, unknown
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import LogitsMethod

LARGEST = 60.0
"""Bound of an exponent; exp(88) is float32's largest."""


def log_ratio(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], label: Int[Array, "*n"]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Returns r without its gradient, and log q of the labels; of labels outside the classes any finite values."""

    def of_label(logits: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
        return jnp.take_along_axis(divergence.log_probabilities(logits), label[..., None], -1, mode="clip")[..., 0]

    log_q = of_label(student)
    return jax.lax.stop_gradient(log_q - of_label(teacher)), log_q


def with_gradient(
    value: Float[Array, "*n"], factor: Float[Array, "*n"], log_q: Float[Array, "*n"]
) -> Float[Array, "*n"]:
    """Returns `value`, whose gradient is `factor` times that of `log_q`."""
    return jax.lax.stop_gradient(value) + jax.lax.stop_gradient(factor) * (log_q - jax.lax.stop_gradient(log_q))


class SampledKL(LogitsMethod):
    """`estimator` is "k1" or "k3"; `per` is "token" or "sequence"."""

    estimator: str = "k1"
    per: str = "token"
    needs_labels = True
    needs_samples = True
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        if self.estimator not in ("k1", "k3"):
            raise unknown("estimator", self.estimator, ("k1", "k3"))
        if self.per not in ("token", "sequence"):
            raise unknown("per", self.per, ("token", "sequence"))
        if (self.estimator, self.per) == ("k3", "sequence"):
            raise UserError(
                "per must be 'token' with estimator 'k3', got 'sequence': its gradient is of each token alone. Take"
                " estimator 'k1'"
            )

    def valid(self, batch: Batch) -> Num[Array, "*m"]:
        """Returns the mask of the predictions that count: of texts that a network has written, if some are."""
        valid = super().valid(batch)
        written = batch.get("written", batch["mask"]) > 0
        return valid * written.reshape(written.shape + (1,) * (valid.ndim - written.ndim))

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        def loss(student: Array, teacher: Array, label: Array) -> Float[Array, "*n 2"]:
            return jnp.stack(log_ratio(student, teacher, label), -1)

        ratio, log_q = jnp.moveaxis(self.compare(loss, student, teacher, batch["label"]), -1, 0)
        if self.estimator == "k3":
            exponent = jnp.minimum(-ratio, LARGEST)
            return with_gradient(jnp.expm1(exponent) + ratio, -jnp.expm1(exponent), log_q)
        factor = ratio
        if self.per == "sequence":
            valid = self.valid(batch)
            counted = jnp.where(valid.reshape(valid.shape + (1,) * (ratio.ndim - valid.ndim)) > 0, ratio, 0.0)
            flat = counted.reshape(len(counted), -1)
            factor = jnp.cumsum(flat[:, ::-1], 1)[:, ::-1].reshape(ratio.shape)
        return with_gradient(ratio, factor, log_q)
