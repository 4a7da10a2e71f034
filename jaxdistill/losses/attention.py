"""Attention maps and relations of tokens compared over the tokens that are there.

Scores are `[batch, heads, length, length]`, a row for each query and a column for each key, before the softmax. Padded
keys are masked before the softmax, so that they take no probability; the rows of padded queries mean nothing and are
left to `token.mean`, which does not count them.
"""

import jax
import jax.numpy as jnp

from jaxdistill.errors import UserError
from jaxdistill.losses import divergence

NOWHERE = -1e30
"""The score of a key that is not there: finite, since infinite ones subtract to what is not a number."""


def kl(student: jax.Array, teacher: jax.Array, there: jax.Array) -> jax.Array:
    """KL(softmax(teacher) || softmax(student)) over the keys that are there, the mean over heads.

    Args:
        student: scores `[batch, heads, length, length]`.
        teacher: the same.
        there: `[batch, length]`, above 0 for tokens.

    Returns:
        `[batch, length]`, nats, a value for each query.

    Raises:
        UserError: where the numbers of heads differ.
    """
    _check_heads(student, teacher)
    keys = (there > 0)[:, None, None, :]
    # Models that mask by -inf have no difference there: -inf less -inf is not a number.
    teacher, student = (jnp.where(keys, jnp.maximum(scores, NOWHERE), NOWHERE) for scores in (teacher, student))
    return jnp.mean(divergence.kl(teacher, student), 1)


def squared(student: jax.Array, teacher: jax.Array, there: jax.Array, floor: float = -float("inf")) -> jax.Array:
    """The squared difference of scores, the mean over heads and over the keys that are there.

    Args:
        student: scores `[batch, heads, length, length]`.
        teacher: the same.
        there: `[batch, length]`, above 0 for tokens.
        floor: scores at or below it are 0, as codes have it that know padding by a large negative number.

    Returns:
        `[batch, length]`, a value for each query.

    Raises:
        UserError: where the numbers of heads differ.
    """
    _check_heads(student, teacher)
    keys = (there > 0)[:, None, None, :]
    student, teacher = (jnp.where(keys & (scores > floor), scores, 0.0) for scores in (student, teacher))
    count = jnp.maximum(jnp.sum(keys, -1), 1).astype(student.dtype)
    return jnp.mean(jnp.sum((student - teacher) ** 2, -1) / count, 1)


def relation(left: jax.Array, right: jax.Array) -> jax.Array:
    """Scaled dot products `left right^T / sqrt(width)` of every two tokens, head by head.

    Args:
        left: `[batch, length, heads, width]`: queries, keys or values.
        right: the same.

    Returns:
        Scores `[batch, heads, length, length]`.
    """
    return jnp.einsum("bihd,bjhd->bhij", left, right, precision="highest") / left.shape[-1] ** 0.5


def split(x: jax.Array, heads: int) -> jax.Array:
    """Joins the heads of `[batch, length, heads, width]` and splits them into another number of them.

    Raises:
        UserError: where that number does not divide the whole width.
    """
    width = x.shape[2] * x.shape[3]
    if width % heads:
        raise UserError(f"{heads} relation heads do not divide a width of {width}; take a number that divides it")
    return x.reshape(*x.shape[:2], heads, width // heads)


def check_layers(layers: str) -> None:
    """Raises `UserError` for a rule that mixes layers: attention maps are compared pair by pair."""
    rule = layers.partition(":")[0]
    if rule in ("learned", "mean"):
        raise UserError(f"layers={layers!r} makes no sense here; take 'uniform:block*' or pairs like 'block0=block1'")


def _check_heads(student: jax.Array, teacher: jax.Array) -> None:
    if student.shape[1] != teacher.shape[1]:
        raise UserError(
            f"the student's attention has {student.shape[1]} heads and the teacher's {teacher.shape[1]}, which are"
            " compared one by one; give the student as many, or use method 'minilmv2', which takes any number"
        )
