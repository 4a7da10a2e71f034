"""Maps brought to one size: against loops over the windows that PyTorch documents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdistill.losses import spatial


def looped(x, size, reduce):
    """Output i of n takes what lies in [floor(i L / n), ceil((i + 1) L / n))."""
    out = np.zeros((x.shape[0], *size, x.shape[3]))
    for i in range(size[0]):
        for j in range(size[1]):
            (top, bottom), (left, right) = (
                (k * length // n, -(-(k + 1) * length // n))
                for k, length, n in ((i, x.shape[1], size[0]), (j, x.shape[2], size[1]))
            )
            out[:, i, j] = reduce(x[:, top:bottom, left:right], axis=(1, 2))
    return out


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([(7, 3), (6, 3), (5, 4), (4, 4), (3, 1)]), st.sampled_from([(7, 5), (4, 2), (5, 5)]))
def test_pooling_takes_the_windows_that_it_should(rows, columns):
    """Windows overlap where a length is no multiple of the one that is wanted."""
    (height, width), size = (rows[0], columns[0]), (rows[1], columns[1])
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, height, width, 3)))
    average_pool, max_pool = (jax.jit(pool, static_argnums=1) for pool in (spatial.average_pool, spatial.max_pool))
    np.testing.assert_allclose(average_pool(x, size), looped(x, size, np.mean), atol=1e-5)
    np.testing.assert_array_equal(max_pool(x, size), looped(x, size, np.max).astype("float32"))


@pytest.mark.parametrize("pool", [spatial.average_pool, spatial.max_pool])
def test_the_larger_is_pooled_axis_by_axis(pool):
    left, right = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 2))
    wide, high = spatial.to_smaller(left[:, :2], right[:, :, :3], pool)
    np.testing.assert_array_equal(wide, pool(left[:, :2], (2, 3)))
    np.testing.assert_array_equal(high, pool(right[:, :, :3], (2, 3)))


def test_blocks_do_not_overlap():
    """3 x 5 places in blocks of 2: two rows and three columns, the last ones of one place."""
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    expected = [[[3, 5, 6.5], [10.5, 12.5, 14]]]
    np.testing.assert_allclose(spatial.average_blocks(x, 2)[..., 0], expected, rtol=1e-6)
    np.testing.assert_allclose(spatial.average_blocks(x[:, :2, :4], 2), spatial.average_pool(x[:, :2, :4], (1, 2)))
