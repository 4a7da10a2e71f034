"""States in fewer numbers: exact where the logits have no more directions, and the best beside any other."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.config.schema import CacheConfig
from jaxdistill.core import Output, Unembedding
from jaxdistill.networks import Cached
from jaxdistill.stages.output_writer import shared_arrays, stored_arrays
from jaxdistill.stages.state_basis import StateBasis

ROWS, WIDTH, CLASSES = 300, 8, 11
DRAW = np.random.default_rng(0).normal
KERNEL, BIAS = DRAW(size=(WIDTH, CLASSES)).astype(np.float32), DRAW(size=CLASSES).astype(np.float32)
FLAT = (DRAW(size=(ROWS, 3)) @ DRAW(size=(3, WIDTH)) + DRAW(size=WIDTH)).astype(np.float32)


def deviations(logits):
    return logits - logits.mean(-1, keepdims=True)


def approximate(basis, rank, hidden):
    shared = basis.arrays(rank)
    return ((hidden - shared["center"]) @ shared["encoder"]) @ shared["kernel"] + shared["bias"]


def test_states_in_a_plane_need_its_numbers():
    basis = StateBasis.fit(FLAT, KERNEL, BIAS)
    np.testing.assert_allclose(
        deviations(approximate(basis, 3, FLAT)), deviations(FLAT @ KERNEL + BIAS), rtol=1e-4, atol=1e-4
    )
    assert basis.mean_kl(3) < 1e-9 < 1e-4 < basis.mean_kl(2)
    assert basis.smallest_rank(1e-8) == 3
    np.testing.assert_allclose(basis.kernel[:3] @ basis.kernel[:3].T, np.eye(3), atol=1e-5)


def test_the_error_is_that_of_the_singular_values():
    """Eckart & Young: the squares of those that are left out."""
    hidden = DRAW(size=(ROWS, WIDTH)).astype(np.float32)
    logits = deviations((hidden - hidden.mean(0)) @ KERNEL)
    values = np.linalg.svd(logits, compute_uv=False)
    basis = StateBasis.fit(hidden, KERNEL, None)
    left = deviations(approximate(basis, 4, hidden) - hidden @ KERNEL)
    np.testing.assert_allclose((left**2).sum(), (values[4:] ** 2).sum(), rtol=1e-3)


def test_a_cache_of_half_the_width_gives_the_logits_of_its_basis():
    hidden = FLAT.reshape(3, 100, WIDTH)
    live = Output(Unembedding(jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(KERNEL, jnp.bfloat16), jnp.asarray(BIAS)))
    basis = StateBasis.fit(np.asarray(live.logits.hidden).reshape(-1, WIDTH), np.asarray(live.logits.kernel), BIAS)
    for dtype, size in {"bfloat16": WIDTH, "int8": WIDTH // 2 + 4}.items():
        spec = CacheConfig(store="svd", dtype=dtype)
        shared = jax.tree.map(jnp.asarray, basis.arrays(WIDTH // 2))
        shapes = shared_arrays(live, spec)
        expected = {name: (x.shape, x.dtype) for name, x in shapes.items()}
        assert {name: (x.shape, x.dtype) for name, x in shared.items()} == expected
        stored = stored_arrays(live, spec, jnp.arange(3), shared)
        stored = {n: x.astype(dtype) if n == "hidden" else x for n, x in stored.items()}
        assert sum(x.nbytes for x in stored.values()) == ROWS * size
        batch = {f"cached/net/{name}": x for name, x in stored.items()}
        logits = Cached("net", CLASSES, shared=shapes)({"unembedding": shared}, batch, {}, None)[0].logits
        error = deviations(np.asarray(core.dense(logits))) - deviations(np.asarray(core.dense(live.logits)))
        assert np.abs(error).max() < 0.05 * np.abs(deviations(np.asarray(core.dense(live.logits)))).max()
    assert shared_arrays(live, CacheConfig(store="svd", rank=2))["kernel"].shape == (2, CLASSES)
