"""Numbers of written texts by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.generation import health
from jaxdistill.generation.sampler import Written
from jaxdistill.train.metrics_log import RESERVED

PROMPT = [[9, 9], [9, 9]]
WRITTEN = [[1, 2, 1, 2, 1], [3, 3, 3, 0, 0]]
COUNTED = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]


def text():
    mask = jnp.concatenate([jnp.zeros((2, 2), bool), jnp.array(COUNTED) > 0], 1)
    return Written(
        tokens=jnp.concatenate([jnp.array(PROMPT), jnp.array(WRITTEN)], 1),
        token_mask=jnp.ones((2, 7), bool) & mask,
        answer_mask=mask,
        log_probs=-0.5 * jnp.array(COUNTED, jnp.float32),
    )


def test_length_repetition_and_entropy_by_hand():
    numbers = health.summarize(text())
    assert numbers[health.LENGTH] == 4
    # 12 21 12 21, of which two are repeated, and 33 33, of which one is.
    assert numbers[health.REPETITION] == pytest.approx(3 / 6)
    assert numbers[health.ENTROPY] == pytest.approx(0.5)


def test_a_text_without_pairs_repeats_nothing():
    assert health.repetition(jnp.array([[4, 0, 0]]), jnp.array([[True, False, False]])) == 0


def test_pairs_that_are_not_neighbours_are_compared():
    tokens = np.array([[5, 1, 7, 5, 1, 8]])
    assert health.repetition(jnp.array(tokens), jnp.ones((1, 6), bool)) == pytest.approx(1 / 5)


def test_no_term_has_the_name_of_such_a_number():
    assert {health.LENGTH, health.REPETITION, health.ENTROPY} <= set(RESERVED)
