import jax
import jax.numpy as jnp
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.cifar_resnet import CifarResNet


def shapes(**fields):
    x = jnp.zeros((2, 32, 32, 3))
    result, variables = jax.eval_shape(CifarResNet(**fields).init_with_output, jax.random.key(0), x)
    return {name: tap.shape for name, tap in result.taps.items()}, core.count(variables["params"])


# By hand, in weights and (scale, bias): stem 3*9*16 + 32; stages 16, 32, 64 of n blocks; head 64*100 + 100.
# A block of c channels has 2*9*c*c + 4c; the first of a stage reads c/2 in one 3x3 and adds a 1x1 and a norm.
STEM, HEAD = 432 + 32, 6_500
FIRST = 4_608 + 64, 4_608 + 9_216 + 512 + 192, 18_432 + 36_864 + 2_048 + 384
OTHER = 4_608 + 64, 18_432 + 128, 73_728 + 256


@pytest.mark.parametrize(
    ("depth", "width", "published"),
    [
        (8, 1, STEM + sum(FIRST) + HEAD),
        (14, 1, STEM + sum(FIRST) + sum(OTHER) + HEAD),
        (20, 1, 278_324),
        (32, 1, 472_756),
        (44, 1, 667_188),
        (56, 1, 861_620),
        (110, 1, 1_736_564),
        (8, 4, 1_233_540),
        (32, 4, 7_433_860),
    ],
)
def test_parameters_as_published_for_100_classes(depth, width, published):
    assert shapes(classes=100, depth=depth, width=width)[1] == published


def test_taps():
    taps, _ = shapes(classes=10, depth=14, width=4)
    one, two, three = (2, 32, 32, 64), (2, 16, 16, 128), (2, 8, 8, 256)
    assert taps == {
        "stem": (2, 32, 32, 32),
        "stage1/block0": one,
        "stage1/block1": one,
        "stage1/preact": one,
        "stage1": one,
        "stage2/block0": two,
        "stage2/block1": two,
        "stage2/preact": two,
        "stage2": two,
        "stage3/block0": three,
        "stage3/block1": three,
        "stage3/preact": three,
        "stage3": three,
        "pooled": (2, 256),
    }


@pytest.mark.parametrize(("width", "stem", "channels"), [(1, 0, 16), (2, 0, 32), (4, 0, 32), (4, 16, 16)])
def test_stem_is_16_at_width_1_and_32_at_others_unless_given(width, stem, channels):
    assert shapes(classes=10, depth=8, width=width, stem=stem)[0]["stem"] == (2, 32, 32, channels)


@pytest.mark.parametrize("tap", ["stem", "stage1", "stage2", "stage3"])
def test_taps_are_after_relu_and_preact_is_before(tap):
    model, x = CifarResNet(10, depth=8), jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    taps = model.apply(model.init(jax.random.key(0), x), x).taps
    assert jnp.all(taps[tap] >= 0)
    if tap != "stem":
        assert jnp.any(taps[f"{tap}/preact"] < 0)
        assert jnp.all(taps[tap] == jnp.maximum(taps[f"{tap}/preact"], 0))


@pytest.mark.parametrize(("depth", "near"), [(21, "20 or 26"), (19, "14 or 20"), (2, "8"), (-5, "8")])
def test_wrong_depth_names_the_nearest(depth, near):
    with pytest.raises(UserError, match=rf"CifarResNet: depth must be 6n\+2, got {depth}; use {near}"):
        CifarResNet(10, depth=depth)
