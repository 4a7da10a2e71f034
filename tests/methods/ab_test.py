"""Activation boundaries: values by hand, layer weights, and refused settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.methods.ab import AB, ab, layer_weights

BATCH = {"mask": jnp.ones(1)}


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(0.5, 3.0, 0.25), (2.0, 3.0, 0.0), (-1.0, 3.0, 4.0), (0.5, -3.0, 2.25), (-2.0, -3.0, 0.0), (0.5, 0.0, 2.25)],
)
def test_margin_on_each_side_of_the_boundary_by_hand(student, teacher, expected):
    np.testing.assert_allclose(ab(jnp.full((1, 1), student), jnp.full((1, 1), teacher), 1.0), [expected], atol=1e-7)


def test_values_sum_over_elements_per_example():
    student, teacher = jnp.zeros((2, 3)), jnp.array([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    np.testing.assert_allclose(ab(student.at[1, 0].set(9.0), teacher, 2.0), [12, 8])


def test_layer_weights_double_towards_the_last_layer():
    np.testing.assert_allclose(layer_weights(3), [0.003 / 4, 0.003 / 2, 0.003])
    left = Output(None, {"a": jnp.zeros((1, 4)), "b": jnp.zeros((1, 2))})
    right = Output(None, {"a": jnp.ones((1, 4)), "b": jnp.ones((1, 2))})
    value = AB(layers="a,b", adapter=False).apply({}, left, right, BATCH)
    np.testing.assert_allclose(value, [0.003 * (4 / 2 + 2)], rtol=1e-6)


def test_the_connector_is_a_convolution_and_batch_normalisation():
    left, right = Output(None, {"a": jnp.ones((1, 4, 4, 3))}), Output(None, {"a": jnp.ones((1, 4, 4, 5))})
    params = AB(layers="a").init(jax.random.key(0), left, right, BATCH)["params"]
    assert params["connector0"]["kernel"].shape == (1, 1, 3, 5)
    assert params["connector0_norm"]["scale"].shape == (5,)
    with pytest.raises(UserError, match="adapter=True"):
        AB(layers="a", adapter=False).init(jax.random.key(0), left, right, BATCH)


def test_only_the_connector_needs_the_whole_batch():
    assert AB().needs_whole_batch
    assert not AB(adapter=False).needs_whole_batch


@pytest.mark.parametrize("fields", [{"margin": -1.0}, {"layers": "mean:stage*"}])
def test_invalid_fields_are_refused(fields):
    AB(margin=0.0).check()
    with pytest.raises(UserError):
        AB(**fields).check()
