import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.wide_resnet import PreactivationBlock, WideResNet


def shapes(**fields):
    x = jnp.zeros((2, 32, 32, 3))
    result, variables = jax.eval_shape(WideResNet(**fields).init_with_output, jax.random.key(0), x)
    return {name: tap.shape for name, tap in result.taps.items()}, core.count(variables["params"])


@pytest.mark.parametrize(
    ("depth", "width", "published"),
    [(16, 2, 703_284), (40, 1, 569_780), (40, 2, 2_255_156), (28, 10, 36_536_884)],
)
def test_parameters_as_published_for_100_classes(depth, width, published):
    assert shapes(classes=100, depth=depth, width=width)[1] == published


def test_taps():
    taps, _ = shapes(classes=10, depth=16, width=2)
    expected = {"stem": (2, 32, 32, 16), "pooled": (2, 128)}
    for stage, side, channels in ((1, 32, 32), (2, 16, 64), (3, 8, 128)):
        for suffix in ("", "/preact", "/block0", "/block1"):
            expected[f"stage{stage}{suffix}"] = (2, side, side, channels)
    assert taps == expected


def silent(channels, x):
    """A block whose branch adds nothing, with a normalisation that shifts by -1, and its variables."""
    block = PreactivationBlock(channels)
    variables = block.init(jax.random.key(0), x)
    variables["params"]["conv2"]["kernel"] *= 0
    variables["params"]["norm1"]["bias"] -= 1
    return block, variables


def test_equal_shapes_use_the_input_as_shortcut():
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 8))
    block, variables = silent(8, x)
    result, preact = block.apply(variables, x)
    np.testing.assert_array_equal(result, x)
    np.testing.assert_allclose(preact, x / np.sqrt(1 + 1e-5) - 1, rtol=1e-5, atol=1e-6)


def test_different_shapes_project_the_activated_input():
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 8))
    block, variables = silent(6, x)
    result, preact = block.apply(variables, x)
    kernel = np.asarray(variables["params"]["shortcut_conv"]["kernel"])[0, 0]
    np.testing.assert_allclose(result, np.maximum(preact, 0) @ kernel, rtol=1e-4, atol=1e-5)


def test_stage_preacts_are_the_stages_after_the_next_norm():
    model, x = WideResNet(10, depth=10, width=1), jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = model.init(jax.random.key(0), x)
    # Each normalisation gets a shift of its own, which identifies its taps.
    follows = {"stage1": ("stage2_block0", "norm1"), "stage2": ("stage3_block0", "norm1"), "stage3": ("final_norm",)}
    for shift, path in enumerate(follows.values(), start=1):
        layer = variables["params"]
        for name in path:
            layer = layer[name]
        layer["bias"] += shift
    taps = model.apply(variables, x).taps
    for shift, stage in enumerate(follows, start=1):
        expected = taps[stage] / np.sqrt(1 + 1e-5) + shift
        np.testing.assert_allclose(taps[f"{stage}/preact"], expected, rtol=1e-5, atol=1e-5)
    assert jnp.any(taps["stage1"] < 0)


def test_dropout_acts_in_training_only_between_the_convolutions():
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 8))
    block = PreactivationBlock(8, dropout=0.5)
    variables = block.init(jax.random.key(0), x)

    def result(key):
        return block.apply(variables, x, train=True, rngs={"dropout": jax.random.key(key)}, mutable=["batch_stats"])[0][
            0
        ]

    assert jnp.any(result(0) != result(1))
    np.testing.assert_array_equal(result(0), result(0))
    block.apply(variables, x, train=False)  # raises without a dropout key if it drops
    variables["params"]["conv2"]["kernel"] *= 0
    np.testing.assert_array_equal(result(0), x)


@pytest.mark.parametrize(("depth", "near"), [(17, "16 or 22"), (20, "16 or 22"), (4, "10")])
def test_wrong_depth_names_the_nearest(depth, near):
    with pytest.raises(UserError, match=rf"WideResNet: depth must be 6n\+4, got {depth}; use {near}"):
        WideResNet(10, depth=depth)
