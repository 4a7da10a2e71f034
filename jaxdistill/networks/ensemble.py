"""Several networks that speak as one."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdistill.core import UNLABELLED, Batch, Output
from jaxdistill.errors import UserError
from jaxdistill.networks.source import Source

WEIGHTINGS = ("", "confidence", "entropy", "agreement")


@dataclasses.dataclass(frozen=True)
class Ensemble(Source):
    """The average of several networks, over "logits" or "probabilities", the same for all examples or each its own.

    With `K` members, log-probabilities `l_k`, and `s` the softmax over members, the weights of an example are

        weighting = ""            `weights`, made to sum to 1; equal where there are none
        weighting = "confidence"  (1 - s_k(-l_k[label])) / (K - 1)          those that find the label likely
        weighting = "entropy"     s_k(-H(p_k))                              those that are sure of anything
        weighting = "agreement"   s_k(-KL(mean_j p_j || p_k))               those that say what all say

    times `weights`. The first is equation 3 of Zhang, Chen & Wang, "Confidence-Aware Multi-Teacher Knowledge
    Distillation", ICASSP 2022, https://arxiv.org/abs/2201.00007; an example whose label is hidden weighs all alike
    there, and so does every one in inference, which must not see labels. The others are our choices: papers that
    weigh by entropy or agreement differ in form.

    No gradient flows through the weights; it does through what the members say. Its taps are its members', named
    `member/tap`.
    """

    of: tuple[str, ...]
    average: str = "probabilities"
    weighting: str = ""
    weights: tuple[float, ...] = ()

    @property
    def needs(self):
        return tuple(self.of)

    @property
    def reads_labels(self):
        return self.weighting == "confidence"

    def __call__(self, variables, batch, outputs, key):
        said = [outputs[name].logits for name in self.of]
        shapes = {name: getattr(logits, "shape", None) for name, logits in zip(self.of, said, strict=True)}
        if None in shapes.values() or len(set(shapes.values())) > 1:
            raise UserError(
                f"an ensemble averages dense logits over the same classes; its members say {shapes}. Those over a"
                " vocabulary are computed with dense=True in the member's entry"
            )
        logits = jnp.stack(said)
        logs = jax.nn.log_softmax(logits)
        weighting = "" if key is None and self.reads_labels else self.weighting
        shares = jax.lax.stop_gradient(self._shares(logs, batch, weighting))[..., None]
        if self.average == "probabilities":
            logits = jax.nn.logsumexp(logs, 0, b=shares)
        else:
            logits = jnp.sum(shares * logits, 0)
        taps = {f"{name}/{tap}": value for name in self.of for tap, value in outputs[name].taps.items()}
        return Output(logits, taps), {}

    def _shares(self, logs: jax.Array, batch: Batch, weighting: str) -> jax.Array:
        """Each member's share of each prediction, `[members, *n]`, from log-probabilities `[members, *n, classes]`."""
        fixed = jnp.asarray(self.weights or (1.0,) * len(self.of), logs.dtype).reshape(-1, *[1] * (logs.ndim - 2))
        shares = fixed * self._own(logs, batch, weighting)
        total = jnp.sum(shares, 0, keepdims=True)
        # Where those that count are all without confidence, the fixed weights alone are left.
        return jnp.where(total > 0, shares / jnp.where(total > 0, total, 1.0), fixed / jnp.sum(fixed, 0, keepdims=True))

    def _own(self, logs: jax.Array, batch: Batch, weighting: str) -> jax.Array:
        members = logs.shape[0]
        if weighting == "confidence":
            label = batch["label"]
            if jnp.issubdtype(label.dtype, jnp.floating):  # mixed labels: the cross-entropy with the mixture
                surprise, known = -jnp.sum(label[None] * logs, -1), jnp.sum(label, -1) > 0
            else:
                one = jnp.broadcast_to(jnp.maximum(label, 0)[None, ..., None], (*logs.shape[:-1], 1))
                surprise, known = -jnp.take_along_axis(logs, one, -1)[..., 0], label != UNLABELLED
            confident = (1 - jax.nn.softmax(surprise, 0)) / max(members - 1, 1)
            return jnp.where(known[None] & (members > 1), confident, 1.0 / members)
        if weighting == "entropy":
            return jax.nn.softmax(jnp.sum(jnp.exp(logs) * logs, -1), 0)
        if weighting == "agreement":
            mean = jax.nn.logsumexp(logs, 0, keepdims=True) - jnp.log(members)
            return jax.nn.softmax(-jnp.sum(jnp.exp(mean) * (mean - logs), -1), 0)
        return jnp.ones(logs.shape[:-1], logs.dtype)
