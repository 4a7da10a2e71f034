"""The choice of the next token: temperature, the likeliest K, the likeliest of a total probability, or the argmax."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdistill.config.parse import option
from jaxdistill.errors import UserError, check_least, check_positive

CUT = -jnp.inf
"""The logit of a token that cannot be chosen."""

BLOCK = 128
"""Classes whose probabilities are summed first."""


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
            tokens = draw_class(self.warp(logits), jax.vmap(jax.random.uniform)(keys))
        chosen = jnp.take_along_axis(logits, tokens[:, None], -1)[:, 0]
        return tokens.astype(jnp.int32), chosen - jax.nn.logsumexp(logits, -1)


def draw_class(logits: Float[Array, "n classes"], uniform: Float[Array, " n"]) -> Int[Array, " n"]:
    """Draws a class of each row by the inverse of its cumulative distribution.

    `jax.random.categorical` draws a number for every class, which costs more than the rest of a small network's step.
    A class of probability below 2^-23, float32's step between the uniform numbers, may never be drawn.

    Args:
        logits: `CUT` for classes that cannot be drawn; at least one of each row can.
        uniform: in [0, 1).
    """
    count, classes = logits.shape
    mass = jnp.exp(logits - jnp.max(logits, -1, keepdims=True))
    # Two levels: the sums of a whole vocabulary one after the other would be its slowest part.
    blocks = jnp.pad(mass, ((0, 0), (0, -classes % BLOCK))).reshape(count, -1, BLOCK)
    sums = jnp.sum(blocks, -1)
    block, rest = _pick(sums, uniform * jnp.sum(sums, -1))
    place, _ = _pick(jnp.take_along_axis(blocks, block[:, None, None], 1)[:, 0], rest)
    return block * BLOCK + place


def _pick(mass: Float[Array, "n entries"], target: Float[Array, " n"]) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Returns the first entry at which the cumulative mass exceeds the target, and the target within the entry."""
    cumulative = jnp.cumsum(mass, -1)
    # By rounding the target may be the whole mass; an entry without mass is never picked.
    last = mass.shape[1] - 1 - jnp.argmax(mass[:, ::-1] > 0, -1)
    entry = jnp.minimum(jnp.sum(cumulative <= target[:, None], -1), last)
    before = jnp.pad(cumulative, ((0, 0), (1, 0)))
    return entry, target - jnp.take_along_axis(before, entry[:, None], 1)[:, 0]
