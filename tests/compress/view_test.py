"""The promises of every view: they are found, not listed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.view import View
from jaxdistill.config import registry
from jaxdistill.errors import UserError

VIEWS = registry.names("view")
KERNELS = {
    "conv/kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 8)),
    "dense/kernel": jax.random.normal(jax.random.key(1), (8, 12)),
    "dense/bias": jnp.ones(12),
    "head/kernel": jax.random.normal(jax.random.key(2), (12, 5)),
}
PLAIN = [name for name in VIEWS if not registry.find("view", name).resizes]


def test_a_pattern_selects_names_and_the_head_is_left_out():
    assert View().selected(KERNELS) == ["conv/kernel", "dense/kernel"]
    assert View(match="head|dense").selected(KERNELS) == ["dense/kernel", "head/kernel"]
    with pytest.raises(UserError, match=r"match must match a parameter .* There are \['conv/kernel'"):
        View(match="attention").check(KERNELS)


@pytest.mark.parametrize("name", PLAIN)
def test_a_view_keeps_names_shapes_and_dtypes(name):
    view = registry.find("view", name)()
    view.check(KERNELS)
    extra = view.init(KERNELS)
    seen = view.view(KERNELS, extra)
    shapes = {key: (x.shape, x.dtype) for key, x in KERNELS.items()}
    assert {key: (x.shape, x.dtype) for key, x in seen.items()} == shapes
    assert {key: (x.shape, x.dtype) for key, x in view.finish(KERNELS, extra).items()} == shapes
    np.testing.assert_array_equal(seen["head/kernel"], KERNELS["head/kernel"])
    assert any(not np.array_equal(seen[key], x) for key, x in KERNELS.items())


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_are_finite_and_an_update_keeps_the_tree(name):
    view = registry.find("view", name)()
    extra = view.init(KERNELS)

    def loss(params, learned):
        return sum((x**2).sum() for x in view.view(params, extra._replace(learned=learned)).values())

    for tree in jax.grad(loss, argnums=(0, 1))(KERNELS, extra.learned):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree))
    zeros = jax.tree.map(jnp.zeros_like, KERNELS)
    assert all(np.isfinite(x).all() for x in view.view(zeros, view.init(zeros)).values())
    updated = jax.jit(view.update)(extra, KERNELS, jnp.int32(3))
    assert jax.tree.structure(updated.state) == jax.tree.structure(extra.state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), updated.state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), extra.state
    )


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_documented(name):
    member = registry.find("view", name)
    assert member.__doc__
    assert member.order in range(5)
