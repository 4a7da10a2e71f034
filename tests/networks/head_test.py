"""A head on a tap of another network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toys
from jaxdistill.errors import UserError
from jaxdistill.modules.heads import PCA, Identity, Linear
from jaxdistill.networks import Frozen, Head
from source_runs import run_fresh

NET = toys.Net(norm=True)


def test_a_frozen_head_is_no_part_of_the_state():
    for frozen in (True, False):
        sources = {"net": Frozen(NET), "exit": Head("net", "stage1", Linear(toys.CLASSES), frozen=frozen)}
        state, rest = toys.start(sources, {}, optax.sgd(0.1), toys.batch(4))
        assert ("exit" in rest) == frozen
        assert ("exit" in state.params) == (not frozen)
        assert sources["exit"].learns == (not frozen)


def test_the_tap_itself_is_the_logits_of_identity():
    source = Head("net", "pooled", Identity())
    outputs, variables = run_fresh({"net": Frozen(NET), "tap": source}, toys.batch(4))
    np.testing.assert_array_equal(outputs["tap"].logits, outputs["net"].tap("pooled"))
    assert "tap" not in variables
    assert not source.learns


def test_principal_components_are_a_tap_besides_the_networks_outputs():
    sources = {"net": Frozen(NET), "reduced": Head("net", "pooled", PCA(2), frozen=True)}
    outputs, _ = run_fresh(sources, toys.batch(4))
    np.testing.assert_array_equal(outputs["reduced"].logits, outputs["net"].logits)
    assert set(outputs["reduced"].taps) == {*outputs["net"].taps, "reduced"}
    assert outputs["reduced"].tap("reduced").shape == (4, 2)


def test_principal_components_project_and_are_at_most_the_width():
    x = jax.random.normal(jax.random.key(0), (5, 2, 2, 6))
    variables = {"components": {"mean": jnp.arange(6.0), "axes": jnp.eye(6)[:, ::-1][:, :2]}}
    output = PCA(2).apply(variables, x)
    np.testing.assert_allclose(output.tap("reduced"), jnp.stack([x[..., 5] - 5, x[..., 4] - 4], -1), rtol=1e-6)
    with pytest.raises(UserError, match="components must be at most the width of the tap, 6, got 7"):
        PCA(7).init(jax.random.key(0), x)
