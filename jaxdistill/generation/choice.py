"""The choice of the next token: temperature, the likeliest K, the likeliest of a total probability, or the argmax."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdistill.config.parse import option
from jaxdistill.errors import UserError, check_least, check_positive

CUT = -jnp.inf
"""The logit of a token that cannot be chosen."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """The distribution that tokens are drawn from, in the order temperature, `top_k`, `top_p`, as in transformers."""

    temperature: float = option(1.0, "divisor of the logits; 0 for the likeliest token", least=0)
    top_k: int = option(0, "number of the likeliest tokens to draw from; 0 for all", least=0)
    top_p: float = option(1.0, "total probability of the likeliest tokens to draw from, above 0 and at most 1")

    def check(self, path: str) -> None:
        """Raises `UserError` for values that are out of bounds."""
        check_least(f"{path}.temperature", self.temperature, 0)
        check_least(f"{path}.top_k", self.top_k, 0)
        check_positive(f"{path}.top_p", self.top_p)
        if self.top_p > 1:
            raise UserError(f"{path}.top_p must be at most 1, got {self.top_p}. 1 draws from all tokens")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is chosen."""
        return self.temperature == 0

    def warp(self, logits: Float[Array, "*n classes"]) -> Float[Array, "*n classes"]:
        """Returns the logits of the distribution, float32; `CUT` for tokens that cannot be chosen.

        Nucleus: Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020,
        https://arxiv.org/abs/1904.09751: the smallest set of the likeliest tokens whose total is at least `top_p`.
        Of equal logits at a border all are permitted.
        """
        logits = logits.astype(jnp.float32) / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            least = jax.lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits >= least, logits, CUT)
        if self.top_p < 1:
            logits = jnp.where(self._in_nucleus(logits), logits, CUT)
        return logits

    def _in_nucleus(self, logits: Float[Array, "*n classes"]) -> Bool[Array, "*n classes"]:
        falling = jnp.sort(logits, axis=-1, descending=True)
        before = jnp.cumsum(jax.nn.softmax(falling), -1) - jax.nn.softmax(falling)
        # The likeliest token has nothing before it, so that the set is never empty.
        least = jnp.min(jnp.where(before < self.top_p, falling, jnp.inf), -1, keepdims=True)
        return logits >= least

    def draw(self, logits: Float[Array, "n classes"], keys: Array) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
        """Draws a token for each row, by its own key.

        Returns:
            The tokens, and the log-probability in nats of each under the logits as they are, before `warp`.
        """
        logits = logits.astype(jnp.float32)
        if self.greedy:
            tokens = jnp.argmax(logits, -1)
        else:
            tokens = jax.vmap(jax.random.categorical)(keys, self.warp(logits))
        chosen = jnp.take_along_axis(logits, tokens[:, None], -1)[:, 0]
        return tokens.astype(jnp.int32), chosen - jax.nn.logsumexp(logits, -1)
