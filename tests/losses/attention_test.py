"""Attention maps compared: by hand, and by the laws that hold for any scores."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from jaxdistill.errors import UserError
from jaxdistill.losses import attention, token

SEEDS = st.integers(0, 2**31 - 1)
LAW = settings(deadline=None, max_examples=25)


def drawn(seed, *shape, scale=3.0):
    return scale * jax.random.normal(jax.random.key(seed), shape)


def test_kl_by_hand():
    """Two tokens and a padded one, whose score would take nearly all the probability."""
    teacher = jnp.log(jnp.array([[[[0.5, 0.5, 1e9], [0.2, 0.8, 1e9], [1.0, 1.0, 1.0]]]]))
    student = jnp.log(jnp.array([[[[0.25, 0.75, 1.0], [0.2, 0.8, 1.0], [1.0, 1.0, 1.0]]]]))
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    found = attention.kl(student, teacher, jnp.array([[1, 1, 0]]))
    np.testing.assert_allclose(found[0, :2], [first, 0.0], rtol=1e-5, atol=1e-7)


def test_squared_by_hand():
    student, teacher = jnp.array([[[[1.0, 2.0, 9.0]]], [[[0.0, 0.0, 0.0]]]]), jnp.zeros((2, 1, 1, 3))
    there = jnp.array([[1, 1, 0], [1, 1, 1]])
    np.testing.assert_allclose(attention.squared(student, teacher, there), [[2.5], [0.0]])
    np.testing.assert_allclose(attention.squared(student, teacher, there, floor=1.0), [[2.0], [0.0]])


def test_heads_are_averaged():
    student, teacher = drawn(0, 2, 2, 4, 3, 3)
    there = jnp.ones((2, 3))
    for loss in (attention.kl, attention.squared):
        one_by_one = [loss(student[:, h : h + 1], teacher[:, h : h + 1], there) for h in range(4)]
        np.testing.assert_allclose(loss(student, teacher, there), sum(one_by_one) / 4, rtol=1e-5)


def test_relation_by_hand():
    x, y = jnp.array([1.0, 2.0, 0.0, 2.0]), jnp.array([3.0, 0.0, 1.0, 1.0])
    vectors = jnp.stack([x, y])[None, :, None]
    expected = np.array([[9.0, 5.0], [5.0, 11.0]]) / 2
    np.testing.assert_allclose(attention.relation(vectors, vectors)[0, 0], expected)


@LAW
@given(SEEDS)
def test_a_rotation_of_the_vectors_changes_no_relation(seed):
    left, right = drawn(seed, 2, 1, 4, 2, 5)
    rotation, _ = jnp.linalg.qr(drawn(seed + 1, 5, 5))
    relation = jax.jit(attention.relation)
    turned = relation(left @ rotation, right @ rotation)
    np.testing.assert_allclose(turned, relation(left, right), rtol=1e-4, atol=1e-4)


@LAW
@given(SEEDS, st.integers(1, 5))
def test_kl_is_not_negative_and_padding_is_as_if_it_were_not_there(seed, length):
    student, teacher = drawn(seed, 2, 1, 2, 5, 5)
    there = (jnp.arange(5) < length)[None]
    kl, squared = jax.jit(attention.kl), jax.jit(attention.squared)
    rows = kl(student, teacher, there)[:, :length]
    cut = (student[..., :length, :length], teacher[..., :length, :length])
    assert (rows >= -1e-5).all()
    np.testing.assert_allclose(rows, kl(*cut, jnp.ones((1, length))), rtol=1e-4, atol=1e-5)
    square = squared(student, teacher, there)[:, :length]
    np.testing.assert_allclose(square, squared(*cut, jnp.ones((1, length))), rtol=1e-5)


@LAW
@given(SEEDS)
def test_a_shift_of_a_query_s_scores_changes_no_attention(seed):
    student, teacher = drawn(seed, 2, 2, 2, 4, 4)
    moved = student + drawn(seed + 1, 2, 2, 4, 1)
    there = jnp.ones((2, 4))
    kl = jax.jit(attention.kl)
    np.testing.assert_allclose(kl(moved, teacher, there), kl(student, teacher, there), atol=1e-4)


@pytest.mark.parametrize("loss", [attention.kl, attention.squared])
def test_infinite_scores_of_padded_keys_and_an_empty_text(loss):
    """Networks may write minus infinity where nothing is; values and gradients stay numbers."""
    there = jnp.array([[1, 1, 0], [0, 0, 0]])
    student, teacher = (jnp.where(there[:, None, None] > 0, x, -jnp.inf) for x in drawn(0, 2, 2, 1, 3, 3))
    value, gradient = jax.jit(jax.value_and_grad(lambda s: token.mean(loss(s, teacher, there), there).sum()))(student)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert np.isfinite(loss(student, teacher, there)).all()


def test_heads_are_split_anew_in_order():
    x = jnp.arange(6.0).reshape(1, 1, 2, 3)
    np.testing.assert_array_equal(attention.split_heads(x, 3)[0, 0], [[0, 1], [2, 3], [4, 5]])
    with pytest.raises(UserError, match="relation heads must divide the width 6, got 4"):
        attention.split_heads(x, 4)


@pytest.mark.parametrize("loss", [attention.kl, attention.squared])
def test_other_numbers_of_heads_are_refused(loss):
    with pytest.raises(UserError, match=r"number of heads 4, got 2.*minilmv2"):
        loss(jnp.zeros((1, 2, 3, 3)), jnp.zeros((1, 4, 3, 3)), jnp.ones((1, 3)))
