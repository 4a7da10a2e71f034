"""Layouts of states, as the program has them that is lowered for a TPU; libtpu need not be there for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdistill import products
from jaxdistill.models import layout


@pytest.mark.parametrize(("platform", "constraints"), [("tpu", 2), ("gpu", 0), ("cpu", 0)])
def test_states_and_their_gradient_keep_their_order_on_a_tpu_alone(platform, constraints, monkeypatch):
    monkeypatch.setattr(products, "platform", lambda: platform)
    x = jnp.ones((2, 3, 4))
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(layout.keep_order(jnp.sin(x)))))
    assert jax.jit(gradient).lower(x).as_text().count("LayoutConstraint") == constraints
    np.testing.assert_allclose(gradient(x), np.cos(np.sin(x)) * np.cos(x), rtol=1e-6)


@pytest.mark.parametrize(("rows", "shape"), [(8, "2,3,4"), (6, "6,3,4")])
def test_a_constraint_is_of_the_rows_of_a_device(rows, shape, monkeypatch):
    """Else the compiler for TPUs may gather the whole batch; rows that the mesh does not divide are left to it."""
    monkeypatch.setattr(products, "platform", lambda: "tpu")
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
    split = NamedSharding(mesh, P(("data", "fsdp") if rows == 8 else None))
    x = jax.device_put(jnp.arange(rows * 12.0).reshape(rows, 3, 4), split)
    with jax.set_mesh(mesh):
        gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(layout.keep_order(x)))))
        text = gradient.lower(x).compile().as_text()
        np.testing.assert_allclose(gradient(x), np.cos(x), rtol=1e-6)
    assert f"f32[{shape}]" in text
    assert "all-gather" not in text
