"""Vision transformers: published sizes, and patches as a convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core, products
from jaxdistill.errors import UserError
from jaxdistill.models.vit import ViT, bicubic
from onednn_calls import count_equations
from toy_texts import SMALL, apply, drawn, shapes

DINO = {"patch": 14, "size": 518, "interpolate": True, "layer_scale": 1.0}
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


@pytest.mark.parametrize(
    ("fields", "published"),
    [
        ({"distillation": "head"}, 87_338_192),  # DeiT-B distilled
        ({"pool": "tanh"}, 86_389_248 + 769_000),  # ViT-B/16 of ImageNet-21k, which has a pooler and no head
        (DINO, 86_580_480 - 768 + 769_000),  # DINOv2-B, whose token of masked patches is left out
        (DINO | {"layers": 40, "width": 1536, "heads": 24, "hidden": 4096, "activation": "swiglu"}, 1_138_016_232),
    ],
)
def test_parameters_of_deit_and_dinov2_as_published(fields, published):
    assert core.count(shapes(ViT(1000, scan=True, **fields), jnp.zeros((1, 224, 224, 3)))) == published


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


@pytest.mark.parametrize(("platform", "convolutions"), [("tpu", 1), ("cpu", 0)])
def test_patches_are_not_cut_on_a_tpu(platform, convolutions, monkeypatch):
    model = ViT(classes=2, patch=4, layers=1, width=6, heads=1)
    variables = drawn(model, IMAGES)

    def embed(params, images):
        return model.apply({"params": params}, images).taps["embed"]

    def derive(params, images):
        return jax.jit(jax.value_and_grad(lambda *at: jnp.sum(jnp.sin(embed(*at))), (0, 1)))(params, images)

    expected = derive(variables["params"], IMAGES)
    monkeypatch.setattr(products, "platform", lambda: platform)
    assert count_equations("conv_general_dilated", embed, variables["params"], IMAGES) == convolutions
    jax.tree.map(
        lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5),
        derive(variables["params"], IMAGES),
        expected,
    )


def test_images_not_divisible_by_the_patch_are_refused():
    for patch in (8, 12):  # divides the one side, or the other
        with pytest.raises(UserError, match=f"patch must divide .* 8 x 12, got {patch}"):
            shapes(ViT(3, patch=patch, **SMALL), IMAGES)
    with pytest.raises(UserError, match="patch must be at least 1 and finite, got 0"):
        ViT(3, patch=0)


def test_both_heads_of_a_distillation_token_are_averaged():
    model = ViT(3, patch=4, distillation="head", **SMALL)
    variables = drawn(model, IMAGES)
    params, result = jax.tree.map(np.asarray, (variables["params"], apply(model, variables, IMAGES)))
    final = result.tap("final")
    assert final.shape == (2, 8, 8)
    tokens = np.concatenate([params["class_token"], params["distillation_token"]], 1) + params["positions"][:, :2]
    np.testing.assert_array_equal(result.tap("embed")[:, :2], np.broadcast_to(tokens, (2, 2, 8)))
    for row, (name, head) in enumerate((("class", "head"), ("distillation", "distillation_head"))):
        expected = final[:, row] @ params[head]["kernel"] + params[head]["bias"]
        np.testing.assert_allclose(result.tap(f"{name}_logits"), expected, rtol=1e-4, atol=1e-5)
    mean = (result.tap("class_logits") + result.tap("distillation_logits")) / 2
    np.testing.assert_allclose(result.logits, mean, rtol=1e-6)


def test_pools_by_hand():
    images = IMAGES[:, :, :8]
    for pool in ("tanh", "class_mean"):
        model = ViT(3, patch=4, pool=pool, **SMALL)
        variables = drawn(model, images)
        params, result = jax.tree.map(np.asarray, (variables["params"], apply(model, variables, images)))
        final = result.tap("final")
        if pool == "tanh":
            expected = np.tanh(final[:, 0] @ params["pooler"]["kernel"] + params["pooler"]["bias"])
        else:
            expected = np.concatenate([final[:, 0], final[:, 1:].mean(1)], -1)
        np.testing.assert_allclose(result.tap("pooled"), expected, rtol=1e-4, atol=1e-5)


def test_bicubic_by_hand():
    """Halving: centres of pairs, with Keys' weights at 0.5 and 1.5, a = -0.75; and a border that is repeated."""
    near, far = 0.59375, -0.09375
    row = [far, near, near, far, 0, 0]
    np.testing.assert_allclose(bicubic(6, 3)[1], np.roll(row, 1), atol=1e-7)
    np.testing.assert_allclose(bicubic(6, 3)[0], [near + far, near, far, 0, 0, 0], atol=1e-7)
    np.testing.assert_array_equal(bicubic(5, 5), np.eye(5))
    np.testing.assert_allclose(bicubic(5, 7).sum(1), np.ones(7), rtol=1e-6)


def test_positions_are_interpolated_along_rows_and_columns():
    model = ViT(3, patch=4, size=16, interpolate=True, **SMALL)
    variables = drawn(model, IMAGES)
    params, result = variables["params"], apply(model, variables, IMAGES)
    assert params["positions"].shape == (1, 17, 8)
    patches = np.einsum("ai,bj,ijw->abw", bicubic(4, 2), bicubic(4, 3), params["positions"][0, 1:].reshape(4, 4, 8))
    flat = drawn(ViT(3, patch=4, **SMALL), IMAGES)["params"]
    moved = dict(params) | {"positions": jnp.concatenate([params["positions"][:, :1], patches.reshape(1, 6, 8)], 1)}
    assert moved["positions"].shape == flat["positions"].shape
    expected = apply(ViT(3, patch=4, **SMALL), {"params": moved}, IMAGES)
    np.testing.assert_allclose(result.logits, expected.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 16}, "images must be 16 x 16, those of the positions, got 8 x 12. Set interpolate=True"),
        ({"size": 10}, "size must be a multiple of patch=4, got 10"),
        ({"interpolate": True}, "interpolate=True needs size, the side of the images"),
        ({"pool": "mean"}, "pool must be .*, got 'mean'"),
        ({"distillation": "heads"}, "distillation must be .* Did you mean 'head'"),
    ],
)
def test_invalid_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        shapes(ViT(3, patch=4, **SMALL, **fields), IMAGES)
