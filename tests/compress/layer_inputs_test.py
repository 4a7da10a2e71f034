import contextlib

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.layer_inputs import example_axes, measure
from jaxdistill.core import Output
from jaxdistill.errors import UserError


class Data:
    """Batches of rows, for one dense layer named `dense`."""

    def __init__(self, *batches):
        self.rows = batches

    def batches(self):
        return iter(self.rows)

    def predict(self, variables, batch, *interceptors):
        with contextlib.ExitStack() as stack:
            for interceptor in interceptors:
                stack.enter_context(nn.intercept_methods(interceptor))
            return Output(Net().apply(variables, batch))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, name="dense")(x)


VARIABLES = {"params/dense/kernel": jnp.ones((2, 1)), "params/dense/bias": jnp.ones(1)}


def test_a_range_is_over_all_batches_and_one_of_a_layer_that_is_not_called_is_0():
    data = Data(jnp.array([[1.0, -2.0]]), jnp.array([[0.5, 4.5]]))
    ranges = measure(data, VARIABLES, ["dense", "absent"], 100.0)
    np.testing.assert_allclose(ranges["dense"], [-2, 4.5, 2])
    np.testing.assert_array_equal(ranges["absent"], [0, 0, 0])
    with pytest.raises(UserError, match="batches must be at least 1"):
        measure(Data(), VARIABLES, ["dense"], 100.0)


def test_a_convolution_has_a_range_for_each_example_and_a_dense_layer_for_each_row():
    assert example_axes(nn.Conv(1, (3, 3)), 4) == (1, 2, 3)
    assert example_axes(nn.Dense(1), 3) == (2,)
    assert example_axes(nn.DenseGeneral(1, axis=(-2, -1)), 4) == (2, 3)
