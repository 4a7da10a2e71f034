"""The choice of a token: what can be drawn, how often, and its log-probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.generation.choice import CUT, Choice, draw_class

LOGITS = jnp.log(jnp.array([0.05, 0.4, 0.15, 0.3, 0.1]))


def probabilities(choice, logits=LOGITS):
    return np.asarray(jax.nn.softmax(choice.warp(logits)))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(), [0.05, 0.4, 0.15, 0.3, 0.1]),
        (Choice(top_k=2), [0, 4 / 7, 0, 3 / 7, 0]),
        (Choice(top_k=9), [0.05, 0.4, 0.15, 0.3, 0.1]),
        (Choice(top_p=0.39), [0, 1, 0, 0, 0]),
        (Choice(top_p=0.71), [0, 0.4 / 0.85, 0.15 / 0.85, 0.3 / 0.85, 0]),
        (Choice(top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7, 0]),
        (Choice(temperature=0.5), np.square([0.05, 0.4, 0.15, 0.3, 0.1]) / 0.285),
    ],
)
def test_the_distribution_by_hand(choice, expected):
    np.testing.assert_allclose(probabilities(choice), expected, rtol=1e-5, atol=1e-7)


def test_the_nucleus_is_that_of_transformers_at_a_border():
    # 0.5 is reached by the first token exactly: transformers removes what comes after a total above top_p.
    assert np.count_nonzero(probabilities(Choice(top_p=0.5), jnp.log(jnp.array([0.5, 0.25, 0.25])))) == 1


def test_equal_logits_at_a_border_are_all_permitted():
    np.testing.assert_allclose(probabilities(Choice(top_k=2), jnp.array([1.0, 1.0, 1.0, 0.0])), [1 / 3] * 3 + [0])


def test_draws_have_the_frequencies_of_the_distribution_and_log_probabilities_of_the_logits():
    count = 4000
    choice = Choice(top_k=3)
    keys = jax.random.split(jax.random.key(0), count)
    tokens, log_probs = jax.jit(choice.draw)(jnp.tile(LOGITS, (count, 1)), keys)
    expected = probabilities(choice)
    found = np.bincount(np.asarray(tokens), minlength=5) / count
    assert found[0] == found[4] == 0
    np.testing.assert_allclose(found, expected, atol=3 * np.sqrt(0.25 / count))
    np.testing.assert_allclose(log_probs, np.asarray(LOGITS)[np.asarray(tokens)], rtol=1e-5)


def test_classes_are_the_inverse_of_the_cumulative_distribution():
    logits = np.random.default_rng(0).normal(size=300)
    logits[[0, 1, 130, *range(256, 300)]] = CUT  # the first ones, one amid others, and the whole last block
    uniform = np.append(np.arange(200) / 200, [1e-6, np.nextafter(np.float32(1), np.float32(0))]).astype(np.float32)
    cumulative = np.cumsum(np.exp(logits))
    expected = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    drawn = draw_class(jnp.tile(jnp.asarray(logits, jnp.float32), (len(uniform), 1)), jnp.asarray(uniform))
    np.testing.assert_array_equal(drawn, expected)
    assert (drawn[0], drawn[-1]) == (2, 255)
    assert (
        draw_class(jnp.asarray(logits[:256], jnp.float32)[None], jnp.ones(1))[0] == 255
    )  # a target that is rounded up


def test_a_row_draws_by_its_own_key_whatever_rows_are_beside_it():
    keys = jax.random.split(jax.random.key(1), 6)
    logits = jax.random.normal(jax.random.key(2), (6, 11))
    together, _ = Choice().draw(logits, keys)
    alone = [int(Choice().draw(logits[i : i + 1], keys[i : i + 1])[0][0]) for i in range(6)]
    np.testing.assert_array_equal(together, alone)


def test_zero_is_the_argmax():
    tokens, log_probs = Choice(temperature=0.0).draw(LOGITS[None], jax.random.split(jax.random.key(0), 1))
    assert tokens.tolist() == [1]
    np.testing.assert_allclose(log_probs, np.log([0.4]), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(temperature=-1.0), "on_policy.temperature must be at least 0"),
        (dict(top_k=-1), "on_policy.top_k must be at least 0"),
        (dict(top_p=0.0), "on_policy.top_p must be"),
        (dict(top_p=1.5), "on_policy.top_p must be at most 1, got 1.5"),
    ],
)
def test_bad_values_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Choice(**fields).check("on_policy")
