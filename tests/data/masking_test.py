"""Masks of whole words: rates, whole words, special tokens, and independence of padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.data.masking import mask_words

EXAMPLES, LENGTH, MASK, VOCABULARY = 500, 40, 4, 1000
FIRST = [-1, *(1 + 3 * (position // 3) for position in range(33)), -1, *[-1] * 5]
"""A special token, words of three tokens, a special token and padding."""


@functools.partial(jax.jit, static_argnames="width")
def masked(seed, view, width=LENGTH):
    index = jnp.arange(EXAMPLES)
    tokens = (5 + (7 * index[:, None] + jnp.arange(LENGTH)[None]) % 900).astype(jnp.int32)
    word = jnp.tile(jnp.array(FIRST), (EXAMPLES, 1))
    batch = {"index": index, "view": jnp.full(EXAMPLES, view), "tokens": tokens[:, :width], "word": word[:, :width]}
    result = mask_words(batch, seed=seed, length=LENGTH, mask_token=MASK, vocabulary=VOCABULARY)
    return batch["tokens"], result["tokens"], result["targets"]


def test_rates():
    tokens, replaced, targets = (np.asarray(x) for x in masked(0, 0))
    words, chosen = np.array(FIRST) >= 0, targets >= 0
    assert abs(chosen[:, words].mean() - 0.15) < 3 * np.sqrt(0.15 * 0.85 / (EXAMPLES * 11))
    assert not chosen[:, ~words].any()
    np.testing.assert_array_equal(targets[chosen], tokens[chosen])
    np.testing.assert_array_equal(replaced[~chosen], tokens[~chosen])
    spread = 3 * np.sqrt(0.25 / chosen.sum())
    assert abs((replaced[chosen] == MASK).mean() - 0.8) < spread
    assert abs((replaced[chosen] == tokens[chosen]).mean() - 0.1) < spread
    others = replaced[chosen & (replaced != MASK) & (replaced != tokens)]
    assert others.min() < 100
    assert others.max() > 900


def test_whole_words_are_chosen():
    chosen = np.asarray(masked(0, 0)[2])[:, 1:34].reshape(EXAMPLES, 11, 3) >= 0
    np.testing.assert_array_equal(chosen.any(-1), chosen.all(-1))


def test_draws_are_of_the_seed_the_example_and_the_view_alone():
    whole, again, cropped = masked(0, 0), masked(0, 0), masked(0, 0, width=20)
    for full, same, part in zip(whole, again, cropped, strict=True):
        np.testing.assert_array_equal(full, same)
        np.testing.assert_array_equal(full[:, :20], part)
    assert not np.array_equal(whole[2], masked(1, 0)[2])
    assert not np.array_equal(whole[2], masked(0, 1)[2])
    rows = np.asarray(whole[2]) >= 0
    assert not np.array_equal(rows[0], rows[1])
