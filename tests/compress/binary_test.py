import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.compress.binary import Binary
from jaxdistill.compress.view import Extra

KERNEL = jnp.array([[0.5, -2.0], [-0.1, 0.4], [0.3, 0.0]])


def test_each_channel_has_two_values_of_the_mean_magnitude():
    viewed = Binary().view({"dense/kernel": KERNEL, "head/kernel": KERNEL, "dense/bias": jnp.ones(2)}, Extra())
    np.testing.assert_allclose(viewed["dense/kernel"], [[0.3, -1.2], [-0.3, 1.2], [0.3, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(viewed["head/kernel"], KERNEL)


def test_the_gradient_passes_the_sign_up_to_a_magnitude_of_1():
    slope = jax.grad(lambda w: jnp.sum(Binary().view({"kernel": w}, Extra())["kernel"] * jnp.array([[3.0, 5.0]])))
    np.testing.assert_array_equal(slope(KERNEL), [[3, 0], [3, 5], [3, 5]])


def test_zeros_stay_zeros():
    np.testing.assert_array_equal(Binary().view({"kernel": jnp.zeros((2, 2))}, Extra())["kernel"], 0)


def test_a_scanned_layer_has_scales_of_its_own():
    stacked = jnp.stack([KERNEL, 10 * KERNEL])
    viewed = Binary().view({"blocks/up/kernel": stacked}, Extra())["blocks/up/kernel"]
    np.testing.assert_allclose(viewed[1], 10 * viewed[0], rtol=1e-6)
