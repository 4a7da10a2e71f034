import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpy_variables
from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.mobilenet_v2 import InvertedResidual, MobileNetV2


@functools.cache
def shapes(side=224, **fields):
    x = jnp.zeros((2, side, side, 3))
    result, variables = jax.eval_shape(MobileNetV2(**fields).init_with_output, jax.random.key(0), x)
    return {name: tap.shape for name, tap in result.taps.items()}, core.count(variables["params"])


# torchvision's mobilenet_v2; timm's mobilenetv2_050 and mobilenetv2_140.
@pytest.mark.parametrize(
    ("width", "published"),
    [
        (1.0, 3_504_872),
        pytest.param(0.5, 1_968_680, marks=pytest.mark.slow),
        pytest.param(1.4, 6_108_776, marks=pytest.mark.slow),
    ],
)
def test_parameters_as_published(width, published):
    assert shapes(width=width)[1] == published


def test_form_of_cifar_has_the_parameters_and_places_of_the_benchmark():
    taps, parameters = shapes(32, classes=100, width=0.5, form="cifar")
    assert parameters == 812_836  # counted in RepDistiller's mobile_half
    assert {name: shape for name, shape in taps.items() if "/" not in name} == {
        "stem": (2, 16, 16, 16),
        "stage1": (2, 16, 16, 12),
        "stage2": (2, 8, 8, 16),
        "stage3": (2, 4, 4, 48),
        "stage4": (2, 2, 2, 160),
        "final": (2, 2, 2, 1280),
        "pooled": (2, 1280),
    }


def test_taps():
    taps, _ = shapes(width=1.0)
    expected = {"stem": (2, 112, 112, 32), "final": (2, 7, 7, 1280), "pooled": (2, 1280)}
    channels = ((16, 24, 24), (32,) * 3, (64,) * 4 + (96,) * 3, (160,) * 3 + (320,))
    sides = ((112, 56, 56), (28,) * 3, (14,) * 7, (7,) * 4)
    for stage, (widths, heights) in enumerate(zip(channels, sides, strict=True), start=1):
        for index, (width, side) in enumerate(zip(widths, heights, strict=True)):
            expected[f"stage{stage}/block{index}"] = (2, side, side, width)
        expected[f"stage{stage}"] = expected[f"stage{stage}/preact"] = (2, side, side, width)
    assert taps == expected


def test_stages_without_blocks_are_left_out():
    taps, _ = shapes(32, depths=(1, 0, 2, 0, 0, 0, 0))
    assert [name for name in taps if "block" in name] == ["stage1/block0", "stage2/block0", "stage2/block1"]


@pytest.mark.parametrize(
    ("channels", "width", "form", "rounded"),
    [
        (24, 0.5, "imagenet", 16),  # 12 lies between 8 and 16; a tie goes up
        (24, 0.75, "imagenet", 24),  # 16 would remove more than a tenth of 18
        (16, 0.1, "imagenet", 8),
        (96, 0.35, "imagenet", 32),  # 33.6
        (24, 0.35, "cifar", 8),  # 8.4
    ],
)
def test_rounding_by_hand(channels, width, form, rounded):
    assert MobileNetV2(width=width, form=form).scaled(channels) == rounded


def test_a_block_adds_its_input_where_the_shape_stays():
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 8))

    def silent(channels, stride, expand):
        """The output of a block whose last normalisation returns 0."""
        block = InvertedResidual(channels, stride, expand, jax.nn.relu6)
        variables = numpy_variables.draw(block, x)
        variables["params"]["project_norm"] = {"scale": jnp.zeros(channels), "bias": jnp.zeros(channels)}
        assert ("expand_conv" in variables["params"]) == (expand > 0)
        return jax.jit(block.apply)(variables, x)

    np.testing.assert_array_equal(silent(8, 1, 2), x)
    np.testing.assert_array_equal(silent(8, 2, 0), jnp.zeros((1, 2, 2, 8)))


def test_forms_have_relu6_and_relu():
    x = jnp.full((1, 8, 8, 3), 100.0)
    for form, bounded in (("imagenet", True), ("cifar", False)):
        model = MobileNetV2(2, width=0.25, depths=(1, 0, 0, 0, 0, 0, 0), form=form)
        variables = jax.tree.map(lambda leaf: np.ones(leaf.shape), jax.eval_shape(model.init, jax.random.key(0), x))
        stem = jax.jit(lambda variables, model=model: model.apply(variables, x).tap("stem"))(variables)
        assert (np.max(stem) <= 6) == bounded


def test_mistakes():
    with pytest.raises(UserError, match=r"MobileNetV2's depths must be 7 numbers of 0 or more, not all 0, got \(1,\)"):
        MobileNetV2(depths=(1,))
    with pytest.raises(UserError, match="MobileNetV2's width must be greater than 0 and finite, got 0"):
        MobileNetV2(width=0)
