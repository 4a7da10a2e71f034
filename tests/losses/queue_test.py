"""Queues: what is oldest is written over, what is drawn is there."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.losses import queue


def items(*values):
    """One class of vectors of one number."""
    return jnp.array(values, jnp.float32)[None, :, None]


def pushed(kept, count, new, there):
    kept, count = queue.push(kept, count, new, jnp.array([there], bool))
    return [float(x) for x in kept[0, :, 0]], kept, count


def test_first_in_first_out():
    start = jnp.zeros((1, 3, 1)), jnp.zeros(1, jnp.int32)
    seen, *state = pushed(*start, items(1, 2, 3), [1, 0, 1])
    assert seen == [1, 3, 0]
    seen, *state = pushed(*state, items(4, 5), [1, 1])
    assert seen == [5, 3, 4]
    seen, *state = pushed(*state, items(6, 7), [0, 0])
    assert seen == [5, 3, 4]
    seen, _, count = pushed(*state, items(6, 7, 8, 9, 10), [1] * 5)  # more than there are slots
    assert seen == [8, 6, 7]
    assert count == 7


def test_draws_are_different_and_there():
    kept, count = queue.push(
        jnp.zeros((2, 5, 1)),
        jnp.zeros(2, jnp.int32),
        jnp.arange(6.0).reshape(2, 3, 1),
        jnp.array([[1, 1, 1], [0, 0, 1]]) > 0,
    )
    drawn, there = queue.draw(jax.random.key(0), kept, count, 3)
    np.testing.assert_array_equal(there, [True] * 4 + [False] * 2)
    assert sorted(drawn[there, 0].tolist()) == [0, 1, 2, 5]
    some = {float(queue.draw(jax.random.key(seed), kept, count, 1)[0][0, 0]) for seed in range(30)}
    assert some == {0, 1, 2}
