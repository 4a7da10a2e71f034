"""The focal loss by hand, and as torchvision has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.losses import focal


def test_values_by_hand():
    """With p = 3 / 4 a yes is 1/4 * (1/4)^2 * -log(3/4), a no 3/4 * (3/4)^2 * -log(1/4)."""
    logits = jnp.full(2, np.log(3.0))
    values = focal.sigmoid_focal(logits, jnp.array([True, False]), 0.25, 2.0)
    np.testing.assert_allclose(values, [-np.log(0.75) / 64, -(27 / 64) * np.log(0.25)], rtol=1e-5)


def test_without_focus_it_is_the_cross_entropy():
    logits, target = jnp.array([-2.0, 0.5, 3.0]), jnp.array([True, False, True])
    probability = jax.nn.sigmoid(jnp.where(target, logits, -logits))
    np.testing.assert_allclose(focal.sigmoid_focal(logits, target, 0.5, 0.0), -0.5 * jnp.log(probability), rtol=1e-5)


def test_values_and_gradients_of_sure_decisions_are_finite():
    logits, target = jnp.array([-1e4, 1e4, 1e4, -1e4]), jnp.array([True, False, True, False])
    values, gradient = jax.value_and_grad(lambda x: jnp.sum(focal.sigmoid_focal(x, target, 0.25, 2.0)))(logits)
    assert np.isfinite(values)
    np.testing.assert_allclose(gradient, [-0.25, 0.75, 0, 0], atol=1e-6)


@pytest.mark.slow
def test_values_and_gradients_are_those_of_torchvision():
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision").ops
    draw = np.random.default_rng(0)
    logits, target = draw.normal(0, 4, (50, 7)).astype(np.float32), draw.random((50, 7)) < 0.2
    theirs = torch.tensor(logits, requires_grad=True)
    expected = ops.sigmoid_focal_loss(theirs, torch.tensor(target, dtype=torch.float32), 0.25, 2.0, "none")
    expected.sum().backward()
    ours, pull = jax.vjp(lambda x: focal.sigmoid_focal(x, jnp.array(target), 0.25, 2.0), jnp.array(logits))
    np.testing.assert_allclose(ours, expected.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones_like(ours))[0], theirs.grad, rtol=1e-3, atol=1e-6)
