import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.vgg import VGG, average_to


def shapes(side=224, **fields):
    x = jnp.zeros((2, side, side, 3))
    result, variables = jax.eval_shape(VGG(**fields).init_with_output, jax.random.key(0), x)
    return {name: tap.shape for name, tap in result.taps.items()}, core.count(variables["params"])


# https://pytorch.org/vision/stable/models.html
@pytest.mark.parametrize(
    ("depth", "plain", "norm"),
    [
        pytest.param(11, 132_863_336, 132_868_840, marks=pytest.mark.slow),
        pytest.param(13, 133_047_848, 133_053_736, marks=pytest.mark.slow),
        (16, 138_357_544, 138_365_992),
        pytest.param(19, 143_667_240, 143_678_248, marks=pytest.mark.slow),
    ],
)
def test_parameters_as_published(depth, plain, norm):
    assert (shapes(depth=depth)[1], shapes(depth=depth, norm=True)[1]) == (plain, norm)


# Counted in RepDistiller's vgg8_bn and vgg13_bn.
@pytest.mark.parametrize(("depth", "published"), [(8, 3_965_028), (13, 9_462_180)])
def test_parameters_of_the_benchmark_for_100_classes(depth, published):
    assert shapes(32, classes=100, depth=depth, norm=True, form="cifar")[1] == published


def test_taps():
    taps, _ = shapes(depth=11)
    expected = {"hidden1": (2, 4096), "pooled": (2, 4096)}
    sizes = ((224, 64), (112, 128), (56, 256), (28, 512), (14, 512))
    for stage, count, (side, channels) in zip((1, 2, 3, 4, 5), (1, 1, 2, 2, 2), sizes, strict=True):
        for suffix in ("", "/preact", *(f"/block{index}" for index in range(count))):
            expected[f"stage{stage}{suffix}"] = (2, side, side, channels)
    assert taps == expected


@pytest.mark.parametrize(("side", "sides"), [(32, (32, 16, 8, 4, 4)), (64, (64, 32, 16, 8, 4))])
def test_form_of_cifar_pools_three_times_or_four(side, sides):
    taps, _ = shapes(side, depth=8, form="cifar")
    assert tuple(taps[f"stage{stage}"][1] for stage in (1, 2, 3, 4, 5)) == sides
    assert taps["pooled"] == (2, 512)


def test_average_by_hand():
    x = jnp.arange(1.0, 6.0).reshape(1, 1, 5, 1)  # 1 2 3 4 5
    # torch.nn.AdaptiveAvgPool2d: windows [0, 2), [1, 4), [3, 5) along the row; the one row is repeated.
    result = average_to(x, 3)[0, :, :, 0]
    np.testing.assert_allclose(result, [[1.5, 3, 4.5]] * 3, rtol=1e-6)
    assert average_to(jnp.ones((1, 3, 3, 1)), 3).shape == (1, 3, 3, 1)


@pytest.mark.slow
def test_dropout_acts_in_training_only():
    model = VGG(2, depth=8, channels=(1, 1, 1, 1, 1), hidden=64, dropout=0.5)
    x = jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), jax.eval_shape(model.init, jax.random.key(0), x))
    train = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={"dropout": key}).logits)
    assert jnp.any(train(jax.random.key(0)) != train(jax.random.key(1)))
    model.apply(variables, x)  # raises without a key if it drops


@pytest.mark.parametrize(
    ("fields", "side", "message"),
    [
        (dict(depth=12), 32, r"VGG's depth must be an existing depth, got 12\."),
        (dict(form="small"), 32, r"VGG's form must be an existing form, got 'small'\. .*'cifar', 'imagenet'"),
        (dict(channels=(64, 128)), 32, r"VGG's channels must be 5 positive numbers, got \(64, 128\)"),
        (dict(), 31, r"VGG's images must be at least 32 pixels a side, got 31\. Resize them"),
        (dict(form="cifar"), 7, r"VGG's images must be at least 8 pixels a side, got 7"),
    ],
)
def test_mistakes(fields, side, message):
    with pytest.raises(UserError, match=message):
        shapes(side, **fields)
