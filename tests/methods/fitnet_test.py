"""FitNets: values by hand, the regressor's shapes, and refused settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.methods.fitnet import FitNet, fitnet


def of(**taps):
    return Output(jnp.zeros((2, 3)), taps)


def noise(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


BATCH = {"mask": jnp.ones(2)}


def test_by_hand():
    np.testing.assert_allclose(fitnet(jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.array([[3.0, 2.0], [0.0, 4.0]])), [2, 8])


@pytest.mark.parametrize(
    ("student", "teacher", "kernel"),
    [(8, 4, (3, 3)), (4, 8, (4, 4)), (7, 5, (3, 3)), (16, 4, (13, 13)), (5, 5, (1, 1)), (3, 8, (1, 1))],
)
def test_the_regressor_follows_from_the_sizes(student, teacher, kernel):
    left, right = of(stage2=noise(2, student, student, 3)), of(stage2=noise(2, teacher, teacher, 6, seed=1))
    value, variables = FitNet().init_with_output(jax.random.key(0), left, right, BATCH)
    assert value.shape == (2,)
    assert variables["params"]["stage2"]["kernel"].shape == (*kernel, 3, 6)


def test_vectors_and_tokens_use_a_dense_layer():
    left, right = of(pooled=noise(2, 3), block0=noise(2, 7, 3)), of(pooled=noise(2, 5), block0=noise(2, 7, 4))
    params = FitNet(layers="pooled,block0").init(jax.random.key(0), left, right, BATCH)["params"]
    assert params["pooled"]["kernel"].shape == (3, 5)
    assert params["block0"]["kernel"].shape == (3, 4)


def test_without_an_adapter_it_is_the_error_of_a_reconstruction():
    left, right = of(reconstruction=noise(2, 2, 2, 3)), of(stage3=noise(2, 2, 2, 3, seed=1))
    method = FitNet(layers="reconstruction=stage3", adapter=False)
    value, variables = method.init_with_output(jax.random.key(0), left, right, BATCH)
    assert not variables
    difference = left.tap("reconstruction") - right.tap("stage3")
    np.testing.assert_allclose(value, jnp.mean(difference**2, (1, 2, 3)), rtol=1e-6)


def test_relu_makes_the_hint_nonnegative():
    left, zero = of(stage2=noise(2, 4, 4, 3)), of(stage2=jnp.zeros((2, 4, 4, 3)))
    plain, cut = (FitNet(relu=relu).init_with_output(jax.random.key(0), left, zero, BATCH)[0] for relu in (False, True))
    assert (cut < plain).all()


def test_different_shapes_without_an_adapter_are_refused():
    with pytest.raises(UserError, match=r"\[2, 4, 4, 3\].*\[2, 4, 4, 6\].*adapter=True"):
        FitNet(adapter=False).init(jax.random.key(0), of(stage2=noise(2, 4, 4, 3)), of(stage2=noise(2, 4, 4, 6)), BATCH)


@pytest.mark.parametrize("fields", [{"norm": True}, {"relu": True}])
def test_norm_and_relu_without_an_adapter_are_refused(fields):
    FitNet(**fields).check()
    with pytest.raises(UserError, match="adapter"):
        FitNet(adapter=False, **fields).check()


def test_batch_normalisation_needs_the_whole_batch():
    assert FitNet(norm=True).needs_whole_batch
    assert not FitNet().needs_whole_batch


def test_norm_is_exact_on_maps_far_from_0():
    """By the mean of squares less the square of the mean it is 56,220 here."""
    left, right = of(stage2=noise(2, 4, 4, 3)), of(stage2=noise(2, 4, 4, 3, seed=1))
    far = of(stage2=left.tap("stage2") + 1e4)
    method = FitNet(norm=True)
    variables = method.init(jax.random.key(0), left, right, BATCH)
    near, value = (method.apply(variables, x, right, BATCH, mutable=["batch_stats"])[0] for x in (left, far))
    np.testing.assert_allclose(value, near, rtol=1e-2)
