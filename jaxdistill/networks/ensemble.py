"""An average of the outputs of several networks."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError, check_names
from jaxdistill.modules import regression_method, weightings
from jaxdistill.networks.options import NetworkRef, required
from jaxdistill.networks.source import Outputs, Source

AVERAGES = ("probabilities", "logits", "gaussian")


@dataclasses.dataclass(frozen=True)
class Ensemble(Source):
    """The average of several networks, over "logits", "probabilities", or the members' "gaussian" distributions.

    The last is the Gaussian with the mean and variance of the mixture of the members': Lakshminarayanan, Pritzel,
    Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NIPS 2017,
    https://arxiv.org/abs/1612.01474, section 2.4.

    The weights of an example are those of `weighting` times `member_weights`, made to sum to 1: "equal", "confidence",
    "entropy" or "agreement" (`modules.weightings`). In inference, which must not see labels, a weighting that reads
    them is "equal". No gradient flows through the weights; it does through the members' logits. Taps are those of
    the members, named `member/tap`.
    """

    of: tuple[NetworkRef, ...] = required("members")
    average: str = option("probabilities", "quantity that is averaged: 'probabilities', 'logits' or 'gaussian'")
    weighting: str = option("equal", "weights by example: 'equal', 'confidence', 'entropy' or 'agreement'")
    member_weights: tuple[float, ...] = option((), "fixed weights of the members; equal if empty")

    def check(self) -> None:
        check_names("average", [self.average], AVERAGES)
        registry.find("weighting", self.weighting, "weighting")
        weights = self.member_weights
        if weights and not (len(weights) == len(self.of) and min(weights) >= 0 and 0 < sum(weights) < math.inf):
            raise UserError(
                f"member_weights must be {len(self.of)} numbers of at least 0, not all 0, got {self.member_weights}"
            )

    @property
    def reads_labels(self) -> bool:
        return weightings.reads_labels(registry.find("weighting", self.weighting))

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        logits = self._stack(outputs)
        log_probs = jax.nn.log_softmax(logits)
        weights = jax.lax.stop_gradient(self._weights(log_probs, batch, key is not None))[..., None]
        if self.average == "probabilities":
            logits = jax.nn.logsumexp(log_probs, 0, b=weights)
        elif self.average == "gaussian":
            pairs = regression_method.split_targets(logits, logits.shape[-1] // 2)
            logits = mix_gaussians(pairs, weights).reshape(logits.shape[1:])
        else:
            logits = jnp.sum(weights * logits, 0)
        taps = {f"{name}/{tap}": value for name in self.of for tap, value in outputs[name].taps.items()}
        return Output(logits, taps), {}

    def _stack(self, outputs: Outputs) -> jax.Array:
        """Returns the members' logits, `[members, *n, classes]`."""
        members = {name: outputs[name].logits for name in self.of}
        shapes = {name: getattr(logits, "shape", None) for name, logits in members.items()}
        if None in shapes.values() or len(set(shapes.values())) > 1:
            raise UserError(
                f"members of an ensemble must output dense logits over the same classes, got {shapes}. Set dense=True"
                " in the entry of a member over a vocabulary"
            )
        return jnp.stack([core.dense(logits) for logits in members.values()])

    def _weights(self, log_probs: jax.Array, batch: Batch, trains: bool) -> jax.Array:
        """Returns weights that sum to 1, `[members, *n]`, from log-probabilities `[members, *n, classes]`."""
        fixed = jnp.asarray(self.member_weights or (1.0,) * len(self.of), log_probs.dtype)
        fixed = fixed.reshape(-1, *[1] * (log_probs.ndim - 2))
        weighting = registry.find("weighting", self.weighting)
        if not weightings.reads_labels(weighting):
            weights = weighting(log_probs)
        else:
            weights = weighting(log_probs, label=batch["label"]) if trains else weightings.equal(log_probs)
        weights = fixed * weights
        total = jnp.sum(weights, 0, keepdims=True)
        # If no member with a fixed weight has any confidence, the fixed weights alone count.
        uncertain = fixed / jnp.sum(fixed, 0, keepdims=True)
        return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), uncertain)


def mix_gaussians(outputs: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns mean and log variance of a mixture, `[*n, 2]`.

    Args:
        outputs: mean and log variance of each member, `[members, *n, 2]`.
        weights: that sum to 1, `[members, *n]`.
    """
    means, logs = outputs[..., 0], outputs[..., 1]
    mean = jnp.sum(weights * means, 0, keepdims=True)
    # The spread of the means is added, not the difference of two squares, which could be negative.
    variance = jnp.sum(weights * (jnp.exp(logs) + (means - mean) ** 2), 0)
    return jnp.stack([mean[0], jnp.log(variance)], -1)
