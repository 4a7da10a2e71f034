"""Kernels of libraries, interpreted: equal to the matrix of scores, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdistill.models import attention, attention_kernels
from jaxdistill.models.attention import Visibility

LENGTH = 200
"""Two blocks of 128, of which the second is filled up."""

TOKENS = np.arange(LENGTH) >= np.array([[20], [0]])
SEGMENTS = np.arange(LENGTH)[None] // np.array([[90], [150]])
CASES = {
    "all": Visibility(),
    "causal": Visibility(causal=True),
    "window": Visibility(causal=True, window=40),
    "padding": Visibility(causal=True, token_mask=jnp.asarray(TOKENS)),
    "segments": Visibility(segment=jnp.asarray(SEGMENTS)),
    "both sides": Visibility(window=30),
}


def inputs(key_heads):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(2, LENGTH, heads, 16) for heads in (4, key_heads, key_heads, 4)]
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def by_scores(query, key, value, visibility):
    return attention.mix(jax.nn.softmax(attention.scores_of(query, key, visibility)), value)


def with_gradients(function, vectors, weights, visibility):
    weights = weights if visibility.token_mask is None else weights * visibility.token_mask[..., None, None]

    def total(*vectors):
        output = function(*vectors, visibility)
        return jnp.sum(weights * output), output * (weights != 0)

    (_, output), gradients = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(*vectors)
    return output, *gradients


@pytest.mark.slow
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("pattern", CASES)
def test_splash_equals_the_matrix_of_scores(pattern, key_heads):
    *vectors, weights = inputs(key_heads)

    def interpreted(*arguments):
        return attention_kernels.splash(*arguments, interpret=True)

    sides = [with_gradients(form, vectors, weights, CASES[pattern]) for form in (interpreted, by_scores)]
    for got, expected in zip(*sides, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_splash_runs_on_each_device_by_itself():
    """Rows are split over two devices and heads over two."""
    *vectors, _ = inputs(2)
    axes, devices = ("data", "fsdp", "tensor"), jax.devices()[:4]
    mesh = jax.make_mesh((2, 1, 2), axes, axis_types=(AxisType.Auto,) * 3, devices=devices)
    expected = by_scores(*vectors, CASES["padding"])
    placed = [jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))) for x in vectors]
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        got = jax.jit(lambda *vectors: attention_kernels.splash(*vectors, CASES["padding"], interpret=True))(*placed)
    mask = TOKENS[..., None, None]
    np.testing.assert_allclose(got * mask, expected * mask, rtol=1e-5, atol=1e-5)


def test_padding_and_segments_are_one_array():
    visibility = Visibility(token_mask=jnp.array([[0, 1, 1]]), segment=jnp.array([[0, 0, 4]]))
    np.testing.assert_array_equal(attention_kernels._segments(visibility, (1, 3), 5), [[-1, 0, 4, -1, -1]])
    np.testing.assert_array_equal(attention_kernels._segments(Visibility(), (1, 3), 4), [[0, 0, 0, -1]])
