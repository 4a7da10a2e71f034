"""Divergences from mixtures: worked by hand, and by the laws that hold for any logits and any share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxdistill.core import Unembedding
from jaxdistill.losses import chunked, divergence, mixture

ROWS, CLASSES = 3, 5

logits = arrays(np.float32, (ROWS, CLASSES), elements=st.floats(-10, 10, width=32)).map(jnp.asarray)
shares = st.floats(0, 1)
checked = settings(deadline=None, max_examples=25)

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])


def kl(p, q):
    return np.sum(p * np.log(p / q))


skew_kl, jensen_shannon, plain_kl = jax.jit(mixture.kl), jax.jit(mixture.jensen_shannon), jax.jit(divergence.kl)
normalised = jax.jit(functools.partial(mixture.jensen_shannon, normalize=True))
"""Compiled once for all examples of a law; by hand, and where 1 - beta must have float64, they are not."""


def skew_kl_of_right(right, left, share):
    return mixture.kl(left, right, share)


def kl_of_right(right, left):
    return divergence.kl(left, right)


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.value_and_grad, argnums=1)
def gradient_of(loss, x, *others):
    """The sum of a loss, and its gradient by the first side."""
    return loss(x, *others).sum()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 1.0])
def test_kl_to_a_mixture_by_hand(share):
    expected = kl(P, (1 - share) * P + share * Q)
    np.testing.assert_allclose(mixture.kl(jnp.log(P), jnp.log(Q), share), expected, rtol=2e-6)
    np.testing.assert_allclose(mixture.kl_per_fraction(jnp.log(P), jnp.log(Q), share), expected / share, rtol=2e-6)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jensen_shannon_by_hand(beta):
    """The first distribution has the share beta in the mixture."""
    m = beta * P + (1 - beta) * Q
    expected = beta * kl(P, m) + (1 - beta) * kl(Q, m)
    np.testing.assert_allclose(mixture.jensen_shannon(jnp.log(P), jnp.log(Q), beta), expected, rtol=2e-6)
    normalised = mixture.jensen_shannon(jnp.log(P), jnp.log(Q), beta, normalize=True)
    np.testing.assert_allclose(normalised, expected / (beta * (1 - beta)), rtol=2e-6)


@checked
@given(logits, logits)
def test_jensen_shannon_is_symmetric_in_the_middle_and_at_most_log_2(left, right):
    value = np.asarray(jensen_shannon(left, right, 0.5))
    np.testing.assert_allclose(value, jensen_shannon(right, left, 0.5), rtol=1e-5, atol=1e-7)
    assert (value >= 0).all()
    assert (value <= np.log(2) + 1e-6).all()


@checked
@given(logits, logits, shares)
def test_jensen_shannon_with_the_sides_exchanged_has_the_other_share(left, right, beta):
    np.testing.assert_allclose(
        mixture.jensen_shannon(left, right, beta),
        mixture.jensen_shannon(right, left, 1 - beta),
        rtol=1e-4,
        atol=1e-6,
    )


@checked
@given(logits, logits)
def test_the_normalised_ends_are_the_kls(teacher, student):
    for beta, expected in ((0.0, plain_kl(teacher, student)), (1.0, plain_kl(student, teacher))):
        value = normalised(teacher, student, beta)
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-5)
        np.testing.assert_array_equal(jensen_shannon(teacher, student, beta), 0)


@functools.partial(jax.jit, static_argnums=(2, 3))
def summed_with_gradient(teacher, student, beta, normalize):
    def loss(student):
        return jnp.sum(mixture.jensen_shannon(teacher, student, beta, normalize))

    return jax.value_and_grad(loss)(student)


@pytest.mark.slow
@checked
@given(arrays(np.float32, (2, ROWS, CLASSES), elements=st.floats(-3, 3, width=32)).map(jnp.asarray))
def test_it_is_continuous_at_both_ends(sides):
    """Value and gradient at 1e-6 from an end are those at the end, to within what 1e-6 of beta makes of them."""

    for end, near in ((0.0, 1e-6), (1.0, 1 - 1e-6)):
        for normalize in (False, True):
            pairs = zip(
                summed_with_gradient(*sides, end, normalize), summed_with_gradient(*sides, near, normalize), strict=True
            )
            for at, beside in pairs:
                np.testing.assert_allclose(at, beside, rtol=1e-3, atol=2e-3 if normalize else 2e-4)


@checked
@given(logits, logits, shares)
def test_skew_kl_is_between_0_and_what_the_share_allows(left, right, share):
    value = np.asarray(skew_kl(left, right, share))
    assert (value >= 0).all()
    if share < 1:
        assert (value <= -np.log1p(-share) + 1e-5).all()
    assert (value <= np.asarray(plain_kl(left, right)) + 1e-4).all()


@checked
@given(logits, logits)
def test_skew_kl_without_skew_is_kl(left, right):
    value, gradient = gradient_of(skew_kl_of_right, right, left, 1.0)
    expected, wanted = gradient_of(kl_of_right, right, left)
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(gradient, wanted, atol=2e-5)


@checked
@given(logits, shares)
def test_nothing_to_learn_at_equality(x, share):
    for loss in (mixture.kl, skew_kl_of_right):
        value, gradient = gradient_of(loss, x, x, share)
        np.testing.assert_array_equal(value, 0)
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1))
def both(left, right, share):
    parts = mixture.kl(left, right, share), mixture.jensen_shannon(left, right, share, normalize=True)
    return sum(map(jnp.sum, parts))


def normalised_in_float64(left, right, beta):
    """KL(p || m) / (1 - beta) + KL(q || m) / beta, and its derivatives by the logits."""
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in np.asarray([left, right], np.float64))
    m = beta * p + (1 - beta) * q
    of_p, of_q = (np.sum(x * np.log(x / m), -1, keepdims=True) for x in (p, q))
    value = of_p / (1 - beta) + of_q / beta
    return value, p * (np.log(p / m) - of_p) / (1 - beta), q * (np.log(q / m) - of_q) / beta


@pytest.mark.parametrize("scale", [0.05, 3.0])
@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jensen_shannon_with_its_gradients_by_hand(beta, scale):
    left, right = scale * np.random.default_rng(0).normal(size=(2, ROWS, CLASSES)).astype(np.float32)
    value, *gradients = normalised_in_float64(left, right, beta)
    np.testing.assert_allclose(normalised(left, right, beta), value[:, 0], rtol=1e-5)
    found = jax.grad(lambda *x: jnp.sum(normalised(*x)), argnums=(0, 1, 2))(left, right, beta)
    for one, expected in zip(found, gradients, strict=False):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6 * scale)
    beside = (normalised_in_float64(left, right, beta + step)[0].sum() for step in (1e-5, -1e-5))
    np.testing.assert_allclose(found[2], (next(beside) - next(beside)) / 2e-5, rtol=1e-4)


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_gradients_near_equality_are_exact_and_shift_no_row(beta):
    """Without the sums of their rows taken out they are 7e-5 off, and rows add up to 8e-5 of their size."""
    random = np.random.default_rng(0)
    right = 3 * random.normal(size=(4, 50)).astype(np.float32)
    left = right + np.float32(1e-3) * random.normal(size=right.shape).astype(np.float32)
    expected = normalised_in_float64(left, right, beta)[1:]
    found = jax.grad(lambda *x: jnp.sum(normalised(*x, beta)), argnums=(0, 1))(left, right)
    for one, exact in zip(map(np.float64, found), expected, strict=True):
        assert np.linalg.norm(one - exact) < 2e-5 * np.linalg.norm(exact)
        assert np.all(np.abs(one.sum(-1)) < 1e-6 * np.abs(exact).sum(-1))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("gap", [0.0, 1e-30, 18.0, 105.0, 1e4])
@pytest.mark.parametrize("share", [0.0, 1e-30, 1e-6, 0.1, 0.5, 1 - 1e-6, 1.0])
def test_finite_with_finite_gradients_at_any_gap(gap, share, dtype):
    left, right = jnp.array([[gap, 0.0, 0.0]], dtype), jnp.array([[0.0, gap, 0.0]], dtype)
    found = both(left, right, share)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


def test_a_small_share_is_not_lost():
    """KL(P || M) / s is s / 2 chi^2 to first order, far below what differences of float32 logarithms could tell."""
    chi = np.sum((Q - P) ** 2 / P)
    np.testing.assert_allclose(mixture.kl_per_fraction(jnp.log(P), jnp.log(Q), 1e-9), 1e-9 / 2 * chi, rtol=1e-5)


@pytest.mark.slow
@checked
@given(st.integers(1, 9), st.integers(1, 12), shares)
def test_chunks_are_the_whole(count, chunk, share):
    keys = jax.random.split(jax.random.key(count), 4)
    sides = [
        Unembedding(jax.random.normal(keys[i], (count, 4)), jax.random.normal(keys[i + 2], (4, CLASSES)))
        for i in (0, 1)
    ]

    def loss(own, other, weight):
        return weight * mixture.jensen_shannon(other, own, share)

    weights = jnp.arange(count, dtype=jnp.float32)
    parts = chunked.compare(loss, *sides, weights, chunk=chunk)
    np.testing.assert_allclose(parts, chunked.compare(loss, *sides, weights, chunk=0), rtol=1e-5, atol=1e-7)
