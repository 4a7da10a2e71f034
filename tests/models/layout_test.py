"""Layouts of states, as the program has them that is lowered for a TPU; libtpu need not be there for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import products
from jaxdistill.models import layout


@pytest.mark.parametrize(("platform", "constraints"), [("tpu", 2), ("gpu", 0), ("cpu", 0)])
def test_states_and_their_gradient_keep_their_order_on_a_tpu_alone(platform, constraints, monkeypatch):
    monkeypatch.setattr(products, "platform", lambda: platform)
    x = jnp.ones((2, 3, 4))
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(layout.keep_order(jnp.sin(x)))))
    assert jax.jit(gradient).lower(x).as_text().count("LayoutConstraint") == constraints
    np.testing.assert_allclose(gradient(x), np.cos(np.sin(x)) * np.cos(x), rtol=1e-6)
