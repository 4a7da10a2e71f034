"""Colours: each operation against torchvision's, and the draws of the jitter."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.data import colours

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden_torchvision" / "colours.npz")
IMAGE, NARROW = (jnp.asarray(GOLDEN[name], jnp.float32) / 255 for name in ("image", "narrow"))

OPERATIONS = {
    "brightness": lambda: colours.adjust_brightness(IMAGE, 1.4),
    "contrast": lambda: colours.adjust_contrast(IMAGE, 0.3),
    "saturation": lambda: colours.adjust_saturation(IMAGE, 1.8),
    "hue": lambda: colours.adjust_hue(IMAGE, -0.2),
    "sharpness": lambda: colours.adjust_sharpness(IMAGE, 1.9),
    "posterize": lambda: colours.posterize(IMAGE, 3),
    "solarize": lambda: colours.solarize(IMAGE, 0.6),
    "autocontrast": lambda: colours.stretch_contrast(NARROW),
    "equalize": lambda: colours.equalize(NARROW),
}


@pytest.fixture(scope="module")
def changed():
    return jax.jit(lambda: {name: operation() for name, operation in OPERATIONS.items()})()


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(changed, name):
    tolerance = 2e-4 if name in ("contrast", "saturation") else 2e-6  # its weight of red is 0.2989, ours 0.299
    np.testing.assert_allclose(changed[name], GOLDEN[name], atol=tolerance)


def test_grey_images_have_no_saturation_and_no_hue():
    grey = IMAGE[..., :1]
    np.testing.assert_array_equal(colours.adjust_hue(grey, 0.3), grey)
    np.testing.assert_allclose(colours.adjust_saturation(grey, 0.3), grey, atol=1e-6)


@pytest.mark.slow
def test_the_jitter_stays_in_its_bounds():
    keys = jax.random.split(jax.random.key(0), 64)
    half = jnp.full((2, 2, 3), 0.5)
    drawn = jax.jit(jax.vmap(lambda key: colours.jitter(key, half, 0.4, 0.0, 0.0, 0.0)))(keys)
    assert 0.3 <= float(drawn.min()) < 0.35
    assert 0.65 < float(drawn.max()) <= 0.7
    assert len({float(image[0, 0, 0]) for image in drawn}) > 60
