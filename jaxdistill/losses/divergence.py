"""Divergences between the distributions of logits, in nats and in log-space.

A logit of -inf is a class of probability 0, as in a masked vocabulary. Classes that are impossible on both sides add
nothing and have no gradient; the KL is infinite, by its definition, if a possible class is impossible on the right.
Values stay exact near equality, where a sum of p (log p - log q) would cancel: with u = log q - log p,

    KL(p || q) = sum_k p_k (e^u_k - 1 - u_k)

since q - p adds up to 0. No term is negative, and a rounding error of either normalising sum, which shifts every u_k by
the same amount, changes the value in second order only.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float

from jaxdistill.core import precise

NEAR = 0.25
"""Bound of |u| below which e^u - 1 - u is its series, which is exact to 1e-16 there."""


class Pair(NamedTuple):
    """Two distributions over the same classes, p on the left and q on the right.

    Attributes:
        p: probabilities, 0 for classes that do not belong.
        q: the same.
        log_ratio: log q - log p; 0 where p or q has a logit of -inf.
        difference: q - p, without cancellation where they are almost equal.
        p_is_possible: whether a class has a logit above -inf on the left.
        q_is_possible: the same on the right.
    """

    p: Float[Array, "*n classes"]
    q: Float[Array, "*n classes"]
    log_ratio: Float[Array, "*n classes"]
    difference: Float[Array, "*n classes"]
    p_is_possible: Bool[Array, "*n classes"]
    q_is_possible: Bool[Array, "*n classes"]


def pair(
    left: Float[Array, "*n classes"],
    right: Float[Array, "*n classes"],
    where: Bool[Array, "*n classes"] | None = None,
) -> Pair:
    """Returns softmax(left) and softmax(right) with their ratio and difference, in at least float32.

    Args:
        left: logits of p.
        right: logits of q.
        where: the classes of the distributions, or all.
    """
    p_is_possible, p_logits, p_exps, p_total = _normalise(precise(left), where)
    q_is_possible, q_logits, q_exps, q_total = _normalise(precise(right), where)
    p, q = p_exps / p_total, q_exps / q_total
    log_ratio = (q_logits - p_logits) - (jnp.log(q_total) - jnp.log(p_total))
    log_ratio = jnp.where(p_is_possible & q_is_possible, log_ratio, 0.0)
    is_near = (jnp.abs(log_ratio) < NEAR) & p_is_possible & q_is_possible
    difference = jnp.where(is_near, p * jnp.expm1(jnp.where(is_near, log_ratio, 0.0)), q - p)
    return Pair(
        p=p,
        q=q,
        log_ratio=log_ratio,
        difference=difference,
        p_is_possible=p_is_possible,
        q_is_possible=q_is_possible,
    )


def _normalise(
    logits: Float[Array, "*n classes"], where: Bool[Array, "*n classes"] | None
) -> tuple[Bool[Array, "*n classes"], Float[Array, "*n classes"], Float[Array, "*n classes"], Float[Array, "*n 1"]]:
    """Returns the possible classes, their logits below 0, the exponentials of these and the sum of them.

    Not a number stays so. Without a possible class the exponentials are 0, and their sum is 1.
    """
    is_possible = logits != -jnp.inf
    if where is not None:
        is_possible &= where
    largest = jax.lax.stop_gradient(jnp.max(logits, -1, keepdims=True, where=is_possible, initial=-jnp.inf))
    logits = jnp.where(is_possible, logits - jnp.where(largest == -jnp.inf, 0.0, largest), 0.0)
    exps = jnp.where(is_possible, jnp.exp(logits), 0.0)
    total = jnp.sum(exps, -1, keepdims=True)
    return is_possible, logits, exps, jnp.where(total == 0, 1.0, total)


def log_probabilities(
    logits: Float[Array, "*n classes"], where: Bool[Array, "*n classes"] | None = None
) -> Float[Array, "*n classes"]:
    """Returns the log-softmax over the classes, in at least float32.

    Args:
        logits: of any float dtype.
        where: restricts the distributions to some classes. The others are 0 and have no gradient, so that a sum of
            differences of two of these goes over the chosen classes alone.
    """
    logits = precise(logits)
    if where is None:
        return jax.nn.log_softmax(logits)
    return jnp.where(where, logits - jax.nn.logsumexp(logits, -1, where=where, keepdims=True), 0.0)


def cross_entropy(target: Float[Array, "*n classes"], logits: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns - sum_k target_k log softmax(logits)_k in nats.

    A class of target 0 adds nothing, however unlikely it is by the logits.
    """
    return -jnp.sum(target * log_probabilities(logits), -1)


def soft_cross_entropy(
    teacher: Float[Array, "*n classes"],
    student: Float[Array, "*n classes"],
    where: Bool[Array, "*n classes"] | None = None,
) -> Float[Array, "*n"]:
    """Returns - sum_k p_k log q_k of softmax(teacher) and softmax(student), their KL plus the teacher's entropy.

    Args:
        teacher: logits.
        student: logits.
        where: the classes of the distributions, or all.
    """
    return -jnp.sum(jnp.exp(log_probabilities(teacher, where)) * log_probabilities(student, where), -1)


def kl(
    teacher: Float[Array, "*n classes"],
    student: Float[Array, "*n classes"],
    where: Bool[Array, "*n classes"] | None = None,
) -> Float[Array, "*n"]:
    """Returns KL(softmax(teacher) || softmax(student)) in nats.

    It is finite for any finite logits. A class of logit -inf has probability 0: it adds nothing on the left, and makes
    the KL infinite on the right unless it is impossible on the left too; gradients are finite always. By `student` they
    are q - p, by `teacher` p (log p - log q - KL).

    Args:
        teacher: logits.
        student: logits.
        where: the classes of the distributions, or all.

    Returns:
        Nats; 0 if `where` leaves no possible class on the left, not a number if there is none among all classes.
    """
    return _kl(precise(teacher), precise(student), where)


@jax.custom_jvp
def _kl(
    teacher: Float[Array, "*n classes"], student: Float[Array, "*n classes"], where: Bool[Array, "*n classes"] | None
) -> Float[Array, "*n"]:
    return _kl_of(pair(teacher, student, where), where is None)[0]


def _kl_tangents(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    # By this rule the backward pass keeps one array of classes, and differentiates no branch that was not taken.
    teacher, student, where = primals
    sides = pair(teacher, student, where)
    value, finite = _kl_of(sides, where is None)
    tangent = jnp.zeros_like(value)
    if not isinstance(tangents[0], SymbolicZero):
        tangent += jnp.sum(-sides.p * (sides.log_ratio + finite[..., None]) * tangents[0], -1)
    if not isinstance(tangents[1], SymbolicZero):
        tangent += jnp.sum(sides.difference * tangents[1], -1)
    return value, tangent


_kl.defjvp(_kl_tangents, symbolic_zeros=True)


def _kl_of(sides: Pair, over_all: bool) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Returns the KL, and the part of it that is of classes possible on both sides."""
    p, u = sides.p, sides.log_ratio
    is_near = jnp.abs(u) < NEAR
    far = sides.difference - p * u
    finite = jnp.sum(jnp.where(is_near & sides.p_is_possible, p * _excess(jnp.where(is_near, u, 0.0)), far), -1)
    infinite = jnp.any((p > 0) & ~sides.q_is_possible, -1)
    value = jnp.where(infinite, jnp.inf, finite)
    return (jnp.where(jnp.any(sides.p_is_possible, -1), value, jnp.nan if over_all else 0.0), finite)


def _excess(u: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns e^u - 1 - u for |u| below `NEAR`."""
    series = jnp.ones_like(u)
    for power in range(13, 2, -1):  # u^2/2 (1 + u/3 (1 + u/4 ...))
        series = 1 + u * (1 / power) * series
    return u * u / 2 * series


def total_variation(teacher: Float[Array, "*n classes"], student: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns 1/2 sum_k |softmax(teacher)_k - softmax(student)_k|, 0 to 1."""
    return jnp.sum(jnp.abs(jax.nn.softmax(precise(teacher)) - jax.nn.softmax(precise(student))), -1) / 2


def binary_kl(teacher: Float[Array, "*n"], student: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the KL between the Bernoulli distributions of sigmoid(teacher) and sigmoid(student), one per logit."""
    teacher, student = precise(teacher), precise(student)

    def one_outcome(sign: int) -> Float[Array, "*n"]:
        log_p, log_q = jax.nn.log_sigmoid(sign * teacher), jax.nn.log_sigmoid(sign * student)
        return jnp.exp(log_p) * (log_p - log_q)

    return one_outcome(1) + one_outcome(-1)
