import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpy_variables
from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.shufflenet_v2 import ShuffleNetV2, SplitUnit


def shapes(side=224, **fields):
    x = jnp.zeros((2, side, side, 3))
    result, variables = jax.eval_shape(ShuffleNetV2(**fields).init_with_output, jax.random.key(0), x)
    return {name: tap.shape for name, tap in result.taps.items()}, core.count(variables["params"])


# https://pytorch.org/vision/stable/models.html
@pytest.mark.parametrize(
    ("channels", "published"),
    [
        ((116, 232, 464, 1024), 2_278_604),
        pytest.param((48, 96, 192, 1024), 1_366_792, marks=pytest.mark.slow),
        pytest.param((176, 352, 704, 1024), 3_503_624, marks=pytest.mark.slow),
        pytest.param((244, 488, 976, 2048), 7_393_996, marks=pytest.mark.slow),
    ],
)
def test_parameters_as_published(channels, published):
    assert shapes(channels=channels)[1] == published


def test_form_of_cifar_has_the_parameters_and_places_of_the_benchmark():
    taps, parameters = shapes(32, classes=100, form="cifar")
    assert parameters == 1_355_528  # counted in RepDistiller's ShuffleV2
    expected = {"stem": (2, 32, 32, 24), "final": (2, 4, 4, 1024), "pooled": (2, 1024)}
    for stage, count, side, channels in ((1, 4, 16, 116), (2, 8, 8, 232), (3, 4, 4, 464)):
        for suffix in ("", "/preact", *(f"/block{index}" for index in range(count))):
            expected[f"stage{stage}{suffix}"] = (2, side, side, channels)
    assert taps == expected


def test_half_of_the_channels_pass_a_unit_without_stride():
    x = jax.random.uniform(jax.random.key(1), (1, 2, 2, 6))
    unit = SplitUnit(6)
    variables = numpy_variables.draw(unit, x)
    variables["params"]["norm3"] = {"scale": jnp.zeros(3), "bias": jnp.zeros(3)}
    # Channels 0, 1, 2 pass; the branch of 3, 4, 5 returns 0; the shuffle alternates them.
    result = jax.jit(unit.apply)(variables, x)
    np.testing.assert_array_equal(result[..., 0::2], x[..., :3])
    np.testing.assert_array_equal(result[..., 1::2], jnp.zeros((1, 2, 2, 3)))


def test_a_unit_with_stride_computes_both_halves_of_all_channels():
    x = jnp.zeros((1, 4, 4, 6))
    result, variables = jax.eval_shape(SplitUnit(10, stride=2).init_with_output, jax.random.key(0), x)
    assert result.shape == (1, 2, 2, 10)
    kernels = {name: layer["kernel"].shape for name, layer in variables["params"].items() if "conv" in name}
    assert kernels == {
        "shortcut_conv1": (3, 3, 1, 6),
        "shortcut_conv2": (1, 1, 6, 5),
        "conv1": (1, 1, 6, 5),
        "conv2": (3, 3, 1, 5),
        "conv3": (1, 1, 5, 5),
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(channels=(8, 16)), r"ShuffleNetV2's channels must be 4 positive numbers, got \(8, 16\)\. Give one for"),
        (dict(channels=(7, 16), depths=(1,)), r"ShuffleNetV2's channels must be even, got \(7, 16\)"),
        (dict(form="tiny"), r"ShuffleNetV2's form must be an existing form, got 'tiny'"),
    ],
)
def test_mistakes(fields, message):
    with pytest.raises(UserError, match=message):
        ShuffleNetV2(**fields)
