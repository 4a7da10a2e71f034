"""Vision transformers: published sizes, and patches as a convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.vit import ViT
from toy_texts import SMALL, apply, drawn, shapes

IMAGES = jax.random.normal(jax.random.key(1), (2, 8, 12, 3))


@pytest.mark.parametrize(
    ("width", "heads", "layers", "patch", "published"),
    [
        (192, 3, 12, 16, 5_717_416),
        (384, 6, 12, 16, 22_050_664),
        (768, 12, 12, 16, 86_567_656),
        (768, 12, 12, 32, 88_224_232),
        (1024, 16, 24, 16, 304_326_632),
    ],
)
def test_parameters_as_published_for_1000_classes(width, heads, layers, patch, published):
    model = ViT(1000, patch=patch, layers=layers, width=width, heads=heads, scan=True)
    assert core.count(shapes(model, jnp.zeros((1, 224, 224, 3)))) == published


def test_taps():
    taps = jax.eval_shape(ViT(3, patch=4, **SMALL).init_with_output, jax.random.key(0), IMAGES)[0].taps
    expected = {"embed": (2, 7, 8), "final": (2, 7, 8), "pooled": (2, 8)}
    for block in ("block0", "block1"):
        expected |= {f"{block}/{name}": (2, 7, 4, 2) for name in ("query", "key", "value")}
        expected |= {f"{block}/{name}": (2, 4, 7, 7) for name in ("scores", "attention")}
        expected[block] = (2, 7, 8)
    assert {name: tap.shape for name, tap in taps.items()} == expected


def test_patches_are_a_convolution_after_the_class_token():
    model = ViT(3, patch=4, **SMALL)
    variables = drawn(model, IMAGES)
    params = variables["params"]
    kernel = params["patches"]["kernel"].reshape(4, 4, 3, 8)
    numbers = ("NHWC", "HWIO", "NHWC")
    actual = jax.lax.conv_general_dilated(IMAGES, kernel, (4, 4), "VALID", dimension_numbers=numbers)
    actual = actual.reshape(2, 6, 8) + params["patches"]["bias"].reshape(1, 1, 8) + params["positions"][:, 1:]
    result = apply(model, variables, IMAGES)
    np.testing.assert_allclose(result.tap("embed")[:, 1:], actual, rtol=1e-4, atol=1e-5)
    token = params["class_token"] + params["positions"][:, :1]
    np.testing.assert_array_equal(result.tap("embed")[:, :1], jnp.broadcast_to(token, (2, 1, 8)))
    np.testing.assert_array_equal(result.tap("pooled"), result.tap("final")[:, 0])
    assert jnp.all(result.tap("block0/attention") > 0)


def test_images_not_divisible_by_the_patch_are_refused():
    for patch in (8, 12):  # divides the one side, or the other
        with pytest.raises(UserError, match=f"patch must divide .* 8 x 12, got {patch}"):
            shapes(ViT(3, patch=patch, **SMALL), IMAGES)
    with pytest.raises(UserError, match="patch must be at least 1 and finite, got 0"):
        ViT(3, patch=0)
