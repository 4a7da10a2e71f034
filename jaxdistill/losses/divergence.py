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

from jaxdistill.core import Scalar, precise

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

    def swap(self) -> "Pair":
        """Returns the pair with its sides exchanged."""
        return Pair(
            p=self.q,
            q=self.p,
            log_ratio=-self.log_ratio,
            difference=-self.difference,
            p_is_possible=self.q_is_possible,
            q_is_possible=self.p_is_possible,
        )


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
    of_p, of_q = _normalise(precise(left), where), _normalise(precise(right), where)
    p, q = of_p.exps / of_p.total, of_q.exps / of_q.total
    is_in_both = of_p.is_possible & of_q.is_possible
    log_ratio = (of_q.logits - of_p.logits) - (jnp.log(of_q.total) - jnp.log(of_p.total))
    log_ratio = jnp.where(is_in_both, log_ratio, 0.0)
    is_near = (jnp.abs(log_ratio) < NEAR) & is_in_both
    near = jnp.where(is_near, log_ratio, 0.0)
    return Pair(
        p=p,
        q=q,
        log_ratio=log_ratio,
        difference=jnp.where(is_near, p * (near + excess(near)), q - p),
        p_is_possible=of_p.is_possible,
        q_is_possible=of_q.is_possible,
    )


class _Exponentials(NamedTuple):
    """Exponentials of logits below 0; 0, with a total of 1, if no class is possible.

    Attributes:
        is_possible: the classes that count and have a logit above -inf, or not a number.
        largest: the greatest of their logits, or 0; without a gradient.
        logits: the logits less the greatest, 0 for other classes.
        exps: their exponentials, 0 for other classes.
        total: the sum of these.
    """

    is_possible: Bool[Array, "*n classes"]
    largest: Float[Array, "*n 1"]
    logits: Float[Array, "*n classes"]
    exps: Float[Array, "*n classes"]
    total: Float[Array, "*n 1"]


def _normalise(logits: Float[Array, "*n classes"], where: Bool[Array, "*n classes"] | None) -> _Exponentials:
    if where is not None:
        logits = jnp.where(where, logits, -jnp.inf)
    is_possible = logits != -jnp.inf
    largest = jax.lax.stop_gradient(jnp.max(logits, -1, keepdims=True, initial=-jnp.inf))
    largest = jnp.where(largest == -jnp.inf, 0.0, largest)
    logits = logits - largest
    exps = jnp.exp(logits)
    total = jnp.sum(exps, -1, keepdims=True)
    total = jnp.where(total == 0, 1.0, total)
    return _Exponentials(is_possible=is_possible, largest=largest, logits=logits, exps=exps, total=total)


def log_total(logits: Float[Array, "*n classes"], where: Bool[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns the logsumexp over some classes; -inf, with a gradient of 0, if none of them is possible."""
    of = _normalise(precise(logits), where)
    value = (of.largest + jnp.log(of.total))[..., 0]
    return jnp.where(jnp.any(of.is_possible, -1), value, -jnp.inf)


def log_probabilities(
    logits: Float[Array, "*n classes"], where: Bool[Array, "*n classes"] | None = None
) -> Float[Array, "*n classes"]:
    """Returns the log-softmax over the classes, in at least float32; -inf for a logit of -inf.

    Args:
        logits: of any float dtype.
        where: restricts the distributions to some classes. The others are 0 and have no gradient, so that a sum of
            differences of two of these goes over the chosen classes alone.
    """
    logits = precise(logits)
    if where is None:
        return jax.nn.log_softmax(logits)
    of = _normalise(logits, where)
    return jnp.where(of.is_possible, of.logits - jnp.log(of.total), jnp.where(where, -jnp.inf, 0.0))


def cross_entropy(target: Float[Array, "*n classes"], logits: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns - sum_k target_k log softmax(logits)_k in nats.

    A class of target 0 adds nothing, however unlikely it is by the logits.
    """
    return -jnp.sum(weighted(target, log_probabilities(logits)), -1)


def weighted(weight: Float[Array, "..."] | Scalar, values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns the product, 0 with a gradient of 0 for a weight of 0, whatever the value: also for one of -inf."""
    return jnp.where(weight == 0, 0.0, weight * jnp.where(weight == 0, 0.0, values))


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
    of = _normalise(precise(teacher), where)
    return -jnp.sum(weighted(of.exps / of.total, log_probabilities(student, where)), -1)


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
    terms = jnp.where(is_near & sides.p_is_possible, p * excess(jnp.where(is_near, u, 0.0)), far)
    is_infinite = (p > 0) & ~sides.q_is_possible
    value = jnp.sum(jnp.where(is_infinite, jnp.inf, terms), -1)
    value = jnp.where(jnp.any(sides.p_is_possible, -1), value, jnp.nan if over_all else 0.0)
    return value, jnp.sum(terms, -1)


def excess(u: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns e^u - 1 - u for |u| below `NEAR`."""
    series = jnp.ones_like(u)
    for power in range(13, 2, -1):  # u^2/2 (1 + u/3 (1 + u/4 ...))
        series = 1 + u * (1 / power) * series
    return u * u / 2 * series


def total_variation(teacher: Float[Array, "*n classes"], student: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns 1/2 sum_k |softmax(teacher)_k - softmax(student)_k|, 0 to 1."""
    return jnp.sum(jnp.abs(pair(teacher, student).difference), -1) / 2


def binary_kl(teacher: Float[Array, "*n"], student: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the KL between the Bernoulli distributions of sigmoid(teacher) and sigmoid(student), one per logit.

    A logit of inf or -inf is an outcome without a doubt.
    """

    def outcomes(logit: Float[Array, "*n"]) -> Float[Array, "*n 2"]:
        is_certain = logit == jnp.inf
        return jnp.stack([jnp.where(is_certain, 0.0, logit), jnp.where(is_certain, -jnp.inf, 0.0)], -1)

    return kl(outcomes(precise(teacher)), outcomes(precise(student)))


def binary_cross_entropy(target: Float[Array, "*n"], logit: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns - y log p - (1 - y) log(1 - p) in nats, p = sigmoid(logit), of targets y in [0, 1]."""
    target, logit = precise(target), precise(logit)
    return jax.nn.softplus(logit) - target * logit


def one_against_rest_kl(
    teacher: Float[Array, "*n classes"], student: Float[Array, "*n classes"], target: Bool[Array, "*n classes"]
) -> Float[Array, "*n"]:
    """Returns the KL between (p_y, 1 - p_y) of softmax(teacher) and softmax(student).

    Args:
        teacher: logits.
        student: logits.
        target: True for the class y alone.
    """
    teacher, student = precise(teacher), precise(student)

    def outcomes(logits: Float[Array, "*n classes"]) -> Float[Array, "*n 2"]:
        return jnp.stack([jnp.sum(logits, -1, where=target), log_total(logits, ~target)], -1)

    of_teacher = outcomes(teacher)
    far = kl(of_teacher, outcomes(student))
    # Logits that differ by little: two logsumexps of the rest would cancel, and leave their rounding.
    is_possible = teacher != -jnp.inf
    moved = student - jnp.where(is_possible, teacher, 0.0)
    is_small = (jnp.abs(moved) < NEAR) | ~(is_possible | (student != -jnp.inf))
    is_near = jnp.all(is_small & (is_possible | ~target), -1) & jnp.any(is_possible & ~target, -1)
    moved = jnp.where(is_near[..., None] & is_possible, moved, 0.0)
    of_rest = jnp.log1p(jnp.sum(pair(teacher, student, ~target).p * jnp.expm1(moved), -1))
    change = jnp.sum(moved, -1, where=target) - of_rest
    odds = jnp.where(is_near, of_teacher[..., 0] - of_teacher[..., 1], 0.0)
    p, rest = jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds)
    near = p * excess(-jnp.log1p(rest * jnp.expm1(-change))) + rest * excess(-jnp.log1p(p * jnp.expm1(change)))
    return jnp.where(is_near, near, far)
