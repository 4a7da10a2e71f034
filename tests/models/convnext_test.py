import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpy_variables
from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.convnext import ConvNeXt, ConvNeXtBlock


def shapes(side=224, **fields):
    x = jnp.zeros((2, side, side, 3))
    result, variables = jax.eval_shape(ConvNeXt(**fields).init_with_output, jax.random.key(0), x)
    return {name: tap.shape for name, tap in result.taps.items()}, core.count(variables["params"])


# https://pytorch.org/vision/stable/models.html
@pytest.mark.parametrize(
    ("depths", "width", "published"),
    [
        ((3, 3, 9, 3), 96, 28_589_128),
        pytest.param((3, 3, 27, 3), 96, 50_223_688, marks=pytest.mark.slow),
        pytest.param((3, 3, 27, 3), 128, 88_591_464, marks=pytest.mark.slow),
        pytest.param((3, 3, 27, 3), 192, 197_767_336, marks=pytest.mark.slow),
    ],
)
def test_parameters_as_published(depths, width, published):
    widths = (width, 2 * width, 4 * width, 8 * width)
    assert shapes(depths=depths, widths=widths)[1] == published


def test_taps():
    taps, _ = shapes(64, depths=(1, 1, 2, 1), widths=(8, 16, 24, 32))
    expected = {"stem": (2, 16, 16, 8), "pooled": (2, 32)}
    for stage, count, side, channels in ((1, 1, 16, 8), (2, 1, 8, 16), (3, 2, 4, 24), (4, 1, 2, 32)):
        for suffix in ("", "/preact", *(f"/block{index}" for index in range(count))):
            expected[f"stage{stage}{suffix}"] = (2, side, side, channels)
    assert taps == expected


def test_places_that_fill_no_patch_are_left_out():
    assert shapes(70, depths=(1, 1), widths=(4, 4))[0]["stage2"] == (2, 8, 8, 4)  # 70 -> 17 -> 8


def make_block(**fields):
    x = jax.random.normal(jax.random.key(1), (64, 2, 2, 4))
    block = ConvNeXtBlock(**{"layer_scale": 1.0, "drop": 0.0, "epsilon": 1e-6} | fields)
    return block, numpy_variables.draw(block, x), x


def test_layer_scale_multiplies_the_result():
    block, variables, x = make_block(layer_scale=0.5)
    scale = variables["params"]["layer_scale"]
    apply = jax.jit(block.apply)
    result = apply(variables, x) - x
    variables["params"]["layer_scale"] = 2 * scale
    np.testing.assert_allclose(apply(variables, x) - x, 2 * result, rtol=1e-3, atol=1e-6)
    start = jax.jit(lambda: block.init(jax.random.key(0), x)["params"]["layer_scale"])()
    np.testing.assert_array_equal(start, np.full(4, 0.5))
    bare = ConvNeXtBlock(layer_scale=0.0, drop=0.0, epsilon=1e-6)
    assert "layer_scale" not in jax.eval_shape(bare.init, jax.random.key(0), x)["params"]


def test_stochastic_depth_leaves_the_block_out_for_whole_examples():
    block, variables, x = make_block(drop=0.25)
    branch = jax.jit(block.apply)(variables, x) - x  # raises without a key if it drops
    result = jax.jit(lambda key: block.apply(variables, x, train=True, rngs={"dropout": key}))(jax.random.key(2))
    left_out = np.all(result == x, axis=(1, 2, 3))
    assert 6 <= left_out.sum() <= 26  # 16 expected of 64
    np.testing.assert_allclose((result - x)[~left_out], branch[~left_out] / 0.75, rtol=1e-3, atol=1e-5)


def test_stochastic_depth_increases_to_the_last_block():
    rates = []

    def record(method, arguments, options, context):
        if isinstance(context.module, ConvNeXtBlock) and context.method_name == "__call__":
            rates.append(context.module.drop)
        return method(*arguments, **options)

    with nn.intercept_methods(record):
        shapes(32, depths=(1, 2), widths=(4, 4), drop_path=0.5)
    assert rates == [0.0, 0.25, 0.5]


@pytest.mark.parametrize(
    ("fields", "side", "message"),
    [
        (dict(depths=(1, 1)), 32, r"one of each for each stage, got \(1, 1\) and \(96, 192, 384, 768\)\. Give as many"),
        (dict(), 31, r"ConvNeXt's images must be at least 32 pixels a side, got 31\. Resize them"),
        (dict(drop_path=1.0), 32, r"ConvNeXt's drop_path must be in \[0, 1\), got 1.0"),
    ],
)
def test_mistakes(fields, side, message):
    with pytest.raises(UserError, match=message):
        shapes(side, **fields)
