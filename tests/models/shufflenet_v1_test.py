import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpy_variables
from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.shufflenet_v1 import ShuffleNetV1, ShuffleUnit, shuffle


def shapes(side=224, **fields):
    x = jnp.zeros((2, side, side, 3))
    result, variables = jax.eval_shape(ShuffleNetV1(**fields).init_with_output, jax.random.key(0), x)
    return {name: tap.shape for name, tap in result.taps.items()}, core.count(variables["params"])


# https://github.com/osmr/pytorchcv (imgclsmob), shufflenet_g1_w1 ..; the authors give 1.9M and 2.4M for 3 and 8 groups.
@pytest.mark.parametrize(
    ("groups", "width", "published"),
    [
        (3, 1.0, 1_865_728),
        pytest.param(1, 1.0, 1_531_936, marks=pytest.mark.slow),
        pytest.param(2, 1.0, 1_733_848, marks=pytest.mark.slow),
        pytest.param(4, 1.0, 1_968_344, marks=pytest.mark.slow),
        pytest.param(8, 1.0, 2_434_768, marks=pytest.mark.slow),
        pytest.param(3, 0.5, 718_324, marks=pytest.mark.slow),
        pytest.param(3, 0.25, 305_902, marks=pytest.mark.slow),
    ],
)
def test_parameters_as_published(groups, width, published):
    assert shapes(groups=groups, width=width)[1] == published


def test_form_of_cifar_has_the_parameters_and_places_of_the_benchmark():
    taps, parameters = shapes(32, classes=100, form="cifar")
    assert parameters == 949_258  # counted in RepDistiller's ShuffleV1
    expected = {"stem": (2, 32, 32, 24), "pooled": (2, 960)}
    for stage, count, side, channels in ((1, 4, 16, 240), (2, 8, 8, 480), (3, 4, 4, 960)):
        for suffix in ("", "/preact", *(f"/block{index}" for index in range(count))):
            expected[f"stage{stage}{suffix}"] = (2, side, side, channels)
    assert taps == expected


def test_shuffle_by_hand():
    # Groups (0 1 2) and (3 4 5): the first of each, the second of each, the third of each.
    np.testing.assert_array_equal(shuffle(jnp.arange(6.0)[None], 2), [[0, 3, 1, 4, 2, 5]])


def test_the_first_convolution_has_no_groups():
    x = jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(ShuffleNetV1(2, width=0.25, depths=(2,)).init, jax.random.key(0), x)["params"]
    # 60 channels: the first unit reads all 6 of the stem and adds 54, the second reads 20 of 60 a group.
    first, second = params["stage1_block0"], params["stage1_block1"]
    kernels = [unit[name]["kernel"].shape for unit in (first, second) for name in ("conv1", "conv2", "conv3")]
    assert kernels == [(1, 1, 6, 15), (3, 3, 1, 15), (1, 1, 5, 54), (1, 1, 20, 15), (3, 3, 1, 15), (1, 1, 5, 60)]


def test_groups_exchange_channels():
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 18))
    unit = ShuffleUnit(18, 36, 3, 3)
    variables = numpy_variables.draw(unit, x)
    # Channels 12 to 17 are the last of three groups; without the shuffle no other group would read them.
    change = jax.jit(lambda x, y: unit.apply(variables, x) - unit.apply(variables, y))(x, x.at[..., 12:].add(1.0))
    assert jnp.all(jnp.any(change != 0, (0, 1, 2)))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_unit_with_a_zero_branch_is_its_shortcut(stride):
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 6))
    unit = ShuffleUnit(6 * stride, 6, 3, 3, stride=stride)
    variables = numpy_variables.draw(unit, x)
    variables["params"]["norm3"] = {"scale": jnp.zeros(6), "bias": jnp.zeros(6)}
    result = jax.jit(unit.apply)(variables, x)
    if stride == 1:
        np.testing.assert_array_equal(result, x)
    else:
        np.testing.assert_array_equal(result[..., :6], jnp.zeros((1, 2, 2, 6)))
        # torch.nn.AvgPool2d(3, 2, 1) divides by 9 at the border too.
        np.testing.assert_allclose(result[0, 0, 0, 6:], jnp.sum(x[0, :2, :2], (0, 1)) / 9, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(groups=5), r"ShuffleNetV1's groups must be an existing number of groups, got 5\."),
        (dict(width=0.3), r"must give channels that 3 groups divide, got 0.3 .*\. Use a multiple of 0.25 and 3 groups"),
        (dict(depths=(1, 0)), "ShuffleNetV1's depths must be at least 1 and finite, got 0"),
    ],
)
def test_mistakes(fields, message):
    with pytest.raises(UserError, match=message):
        ShuffleNetV1(**fields)
