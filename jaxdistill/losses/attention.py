"""Attention scores and relations of tokens, compared over tokens without padding.

Scores are `[batch, heads, length, length]`, a row for each query and a column for each key, before the softmax. Padded
keys are masked before the softmax, so that they take no probability; the rows of padded queries mean nothing and are
left out by `token.mean`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxdistill.errors import UserError
from jaxdistill.losses import divergence

NOWHERE = -1e30
"""The score of a padded key: finite, since the difference of two infinite scores is not a number."""


def kl(
    student: Float[Array, "batch student_heads queries length"],
    teacher: Float[Array, "batch heads queries length"],
    is_token: Shaped[Array, "batch length"],
) -> Float[Array, "batch queries"]:
    """Returns KL(softmax(teacher) || softmax(student)) over the tokens as keys, the mean over heads.

    Args:
        student: scores.
        teacher: scores.
        is_token: above 0 for tokens.

    Returns:
        Nats, a value for each query.

    Raises:
        UserError: if the numbers of heads differ.
    """
    _check_heads(student, teacher)
    keys = (is_token > 0)[:, None, None, :]
    # Models that mask by -inf must give no difference there: -inf - (-inf) is not a number.
    teacher, student = (jnp.where(keys, jnp.maximum(scores, NOWHERE), NOWHERE) for scores in (teacher, student))
    return jnp.mean(divergence.kl(teacher, student), 1)


def squared(
    student: Float[Array, "batch student_heads queries length"],
    teacher: Float[Array, "batch heads queries length"],
    is_token: Shaped[Array, "batch length"],
    floor: float = -float("inf"),
) -> Float[Array, "batch queries"]:
    """Returns the squared difference of scores, the mean over heads and over the tokens as keys.

    Args:
        student: scores.
        teacher: scores.
        is_token: above 0 for tokens.
        floor: scores at or below it become 0, as in code that marks padding by a large negative number.

    Returns:
        A value for each query.

    Raises:
        UserError: if the numbers of heads differ.
    """
    _check_heads(student, teacher)
    keys = (is_token > 0)[:, None, None, :]
    student, teacher = (jnp.where(keys & (scores > floor), scores, 0.0) for scores in (student, teacher))
    count = jnp.maximum(jnp.sum(keys, -1), 1).astype(student.dtype)
    return jnp.mean(jnp.sum((student - teacher) ** 2, -1) / count, 1)


def relation(
    left: Float[Array, "batch length heads width"], right: Float[Array, "batch length heads width"]
) -> Float[Array, "batch heads length length"]:
    """Returns the scaled dot products `left right^T / sqrt(width)` of every two tokens, head by head.

    Args:
        left: queries, keys or values.
        right: the same.
    """
    return jnp.einsum("bihd,bjhd->bhij", left, right, precision="highest") / left.shape[-1] ** 0.5


def split_heads(
    x: Float[Array, "batch length heads width"], heads: int
) -> Float[Array, "batch length new_heads new_width"]:
    """Joins the heads and splits them into another number of them.

    Raises:
        UserError: if that number does not divide the whole width.
    """
    width = x.shape[2] * x.shape[3]
    if width % heads:
        raise UserError(f"relation heads must divide the width {width}, got {heads}")
    return x.reshape(*x.shape[:2], heads, width // heads)


def check_layers(layers: str) -> None:
    """Raises `UserError` for a rule that mixes layers: attention maps are compared pair by pair."""
    rule = layers.partition(":")[0]
    if rule in ("learned", "mean"):
        raise UserError(f"layers must pair single blocks, such as 'uniform:block*' or 'block0=block1', got {layers!r}")


def _check_heads(student: Float[Array, "..."], teacher: Float[Array, "..."]) -> None:
    if student.shape[1] != teacher.shape[1]:
        raise UserError(
            f"the student's attention must have the teacher's number of heads {teacher.shape[1]}, got"
            f" {student.shape[1]}. Change the student, or use method 'minilmv2', which takes any number."
        )
