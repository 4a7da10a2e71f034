"""Contrast: noise-contrastive estimation by hand, and banks that nothing corrupts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.losses import contrast


def test_nce_by_hand():
    """P = 0.5 and 1.5 against a noise of 0.5: - log 1/2 - log 1/4; with eps the same formula, literally."""
    positive, negatives = jnp.log(jnp.array([0.5])), jnp.log(jnp.array([[1.5]]))
    np.testing.assert_allclose(contrast.nce(positive, negatives, 0.5), [3 * np.log(2)], rtol=1e-6)
    literal = -np.log(0.5 / (0.5 + 0.5 + 0.1)) - np.log(0.5 / (1.5 + 0.5 + 0.1))
    np.testing.assert_allclose(contrast.nce(positive, negatives, 0.5, eps=0.1), [literal], rtol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e2, 1e4])
def test_nce_is_finite_at_any_score(size):
    def total(positive, negatives):
        return jnp.sum(contrast.nce(positive, negatives, 1e-4))

    arguments = jnp.array([-size]), jnp.array([[size, -size]])
    assert all(np.isfinite(x).all() for x in (total(*arguments), *jax.jit(jax.grad(total, (0, 1)))(*arguments)))


def test_similarities_with_rows_that_are_not_there_are_not_numbers():
    features, bank = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0], [0, 1], [1, 1]])
    found = contrast.similarities(features, bank, jnp.array([[2, 0, 3]]))
    np.testing.assert_array_equal(found, [[3, 1, np.nan]])


def test_others_are_all_but_oneself_and_equally_often():
    index = jnp.array([0, 2, 3])
    keys = jax.random.split(jax.random.key(0), 3)
    found = contrast.draw_others(keys, index, 4000, 4)
    for own, drawn in zip(index, found, strict=True):
        counts = np.bincount(drawn, minlength=4)
        assert counts[own] == 0
        np.testing.assert_allclose(np.delete(counts, own), 4000 / 3, rtol=0.1)
        assert len(counts) == 4


def test_refresh_moves_the_rows_that_count():
    bank = jnp.array([[1.0, 0], [3, 0], [0, 1]])
    features, index = jnp.array([[0.0, 1.0], [7.0, 7.0]]), jnp.array([0, 1])
    found = contrast.refresh(bank, features, index, jnp.array([1.0, 0]), momentum=0.5)
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [3, 0], [0, 1]], rtol=1e-6)
    kept = contrast.refresh(bank, features, index, jnp.array([1.0, 0]), momentum=0.9)
    np.testing.assert_allclose(kept[0], np.array([9, 1]) / 82**0.5, rtol=1e-6)


def test_refresh_takes_the_mean_of_an_example_that_is_there_twice():
    """Not the last one, which would depend on their order; a third that does not count changes nothing."""
    bank, index = jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.array([1, 1, 1])
    features, mask = jnp.array([[1.0, 0], [0, 1], [9, 9]]), jnp.array([1.0, 1, 0])
    expected = np.array([0.75, 0.25]) / (0.75**2 + 0.25**2) ** 0.5
    for order in ([0, 1, 2], [1, 2, 0]):
        order = jnp.array(order)
        found = contrast.refresh(bank, features[order], index, mask[order], momentum=0.5)
        np.testing.assert_allclose(found, [[0, 1], expected], rtol=1e-6)


def test_refresh_writes_nothing_beyond_the_bank():
    bank = jnp.array([[1.0, 0], [0, 1]])
    found = contrast.refresh(bank, jnp.ones((1, 2)), jnp.array([2]), jnp.ones(1), momentum=0.5)
    np.testing.assert_array_equal(found, bank)
