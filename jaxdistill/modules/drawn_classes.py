"""Classes drawn from a distribution, an unbiased stand-in for all of its logits; and its KL.

Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025,
https://arxiv.org/abs/2503.16870, random sampling from the distribution itself.

    KL(p || q) = -H(p) - E log q(y),  y drawn from p;  estimated by -H(p) - 1/k sum_j log q(y_j)

The draws of a prediction are systematic: y_j is where the cumulative probability passes (j + u) / k, with one u uniform
in [0, 1). So the expected number of draws of a class is exactly k p, as of independent draws, whose variance is larger.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from jaxdistill.core import LogitsForm, precise
from jaxdistill.errors import UserError
from jaxdistill.losses import divergence


@struct.dataclass
class DrawnClasses(LogitsForm):
    """Classes drawn from a distribution, each as often as it was drawn.

    Attributes:
        ids: int32 `[*n, k]`, ascending.
        negative_entropy: `[*n]`, sum of p log p over all classes, nats.
        num_classes: number of classes.
    """

    ids: jax.Array
    negative_entropy: jax.Array
    num_classes: int = struct.field(pytree_node=False)
    lists_all_classes = False

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return self.ids.shape[:-1]

    def dense(self) -> jax.Array:
        raise UserError(
            "logits must cover every class, got drawn ones only. Use a network that outputs logits, or method"
            " 'random_sampling'."
        )

    def comparable(self) -> "DrawnClasses":  # type: ignore[override]
        return self

    def describe(self) -> str:
        return f"{self.ids.shape[-1]} drawn classes {self.ids.shape[1:]}"


def draw(logits: Float[Array, "*n classes"], uniform: Float[Array, "*n"], k: int) -> DrawnClasses:
    """Draws `k` classes for each prediction; `uniform` is u, in [0, 1)."""
    log_p = divergence.log_probabilities(precise(logits))
    cumulative = jnp.cumsum(jnp.exp(log_p), -1)
    number = jnp.arange(k).reshape((1,) * uniform.ndim + (k,))
    points = (number + uniform[..., None]) / k * cumulative[..., -1:]
    flat = cumulative.reshape(-1, cumulative.shape[-1]), points.reshape(-1, k)
    ids = jax.vmap(lambda row, at: jnp.searchsorted(row, at, side="right"))(*flat).reshape(points.shape)
    ids = jnp.minimum(ids, logits.shape[-1] - 1).astype(jnp.int32)
    return DrawnClasses(ids, jnp.sum(jnp.exp(log_p) * log_p, -1), logits.shape[-1])


def draw_uniform(keys: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Draws u for the predictions of each example, `[batch, *shape]`, by its key."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)


def kl(teacher: DrawnClasses, student: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns the estimate in nats, which may be negative; its mean over draws is the KL over all classes."""
    log_q = divergence.log_probabilities(precise(student))
    drawn: Int[Array, "*n k"] = teacher.ids
    return precise(teacher.negative_entropy) - jnp.mean(jnp.take_along_axis(log_q, drawn, -1), -1)
