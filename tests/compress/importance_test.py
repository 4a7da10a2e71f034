"""Importance of units by hand, for a network of one hidden layer."""

import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress import importance, unit_groups
from jaxdistill.core import Output
from jaxdistill.errors import UserError

FIRST = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 0.5]], np.float32)
HEAD = np.array([[1.0], [0.5], [-2.0]], np.float32)
BATCHES = [{"x": jnp.array([[1.0, 2.0]])}, {"x": jnp.array([[3.0, -2.0], [1.0, 0.0]])}]


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.remat(nn.Dense)(3, use_bias=False, name="first")(x)
        return nn.remat(nn.Dense)(1, use_bias=False, name="head")(x)


def data():
    """A calibration on two batches, whose loss is the output, and the groups of the network."""

    def apply(variables, batch, *interceptors):
        for interceptor in interceptors:
            with nn.intercept_methods(interceptor):
                return Net().apply(variables, batch["x"])
        return Net().apply(variables, batch["x"])

    calibration = types.SimpleNamespace(
        batches=lambda: iter(BATCHES),
        predict=lambda *arguments: Output(apply(*arguments)),
        loss=lambda *arguments: jnp.mean(apply(*arguments)),
    )
    variables = {"params": {"first": {"kernel": FIRST}, "head": {"kernel": HEAD}}}
    return calibration, variables, unit_groups.find(apply, variables, BATCHES[0]).groups


def test_magnitude_is_the_norm_of_all_weights():
    _, _, groups = data()
    (group,) = groups.values()
    arrays = {"params/first/kernel": FIRST, "params/head/kernel": HEAD}
    expected = np.sqrt((FIRST**2).sum(0) + HEAD[:, 0] ** 2)
    np.testing.assert_allclose(importance.magnitude(arrays, group), expected, rtol=1e-6)


def test_activation_is_the_mean_over_batches_in_rematerialised_layers():
    calibration, variables, groups = data()
    (scores,) = importance.activation(calibration, variables, groups).values()
    # Hidden units: (1, 0, 1.5); (3, -8, 0.5) and (1, -2, 0.5).
    np.testing.assert_allclose(scores, [1.5, 2.5, 1], rtol=1e-6)


def test_taylor_is_the_squared_derivative_by_a_gate():
    calibration, variables, groups = data()
    (scores,) = importance.taylor(calibration, variables, groups).values()
    # Units times their head weights: (1, 0, -3); (3, -4, -1) and (1, -1, -1), whose mean is (2, -2.5, -1); squared.
    np.testing.assert_allclose(scores, [2.5, 3.125, 5], rtol=1e-6)


def test_without_batches_or_readers():
    calibration, variables, groups = data()
    calibration.batches = lambda: iter([])
    with pytest.raises(UserError, match="calibration must have one batch or more"):
        importance.taylor(calibration, variables, groups)
    with pytest.raises(UserError, match="importance must be 'magnitude' for w:0"):
        importance.check_readers(unit_groups.Group("w:0", "hidden", 2, (unit_groups.Axis("params/w", 0, (2,)),)))
