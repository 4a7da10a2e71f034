import jax
import jax.numpy as jnp
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.resnet import ResNet


def shapes(depth):
    x = jnp.zeros((2, 224, 224, 3))
    result, variables = jax.eval_shape(ResNet(depth=depth).init_with_output, jax.random.key(0), x)
    return {name: tap.shape for name, tap in result.taps.items()}, core.count(variables["params"])


# https://pytorch.org/vision/stable/models.html
@pytest.mark.parametrize(("depth", "published"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_parameters_as_published(depth, published):
    assert shapes(depth)[1] == published


@pytest.mark.parametrize(
    ("depth", "blocks", "wider"), [(18, (2, 2, 2, 2), 1), (34, (3, 4, 6, 3), 1), (50, (3, 4, 6, 3), 4)]
)
def test_taps(depth, blocks, wider):
    expected = {"stem": (2, 56, 56, 64), "pooled": (2, 512 * wider)}
    sizes = ((56, 64), (28, 128), (14, 256), (7, 512))
    for stage, count, (side, channels) in zip((1, 2, 3, 4), blocks, sizes, strict=True):
        for suffix in ("", "/preact", *(f"/block{index}" for index in range(count))):
            expected[f"stage{stage}{suffix}"] = (2, side, side, channels * wider)
    assert shapes(depth)[0] == expected


def test_stem_pools_with_one_row_on_each_side():
    # One bright pixel of the 4x4 that the stem's convolution sees lies in the windows that hold it, as in torch's
    # MaxPool2d(3, 2, 1): row and column 1 are in windows 0 (rows -1..1) and 1 (rows 1..3).
    x = jnp.zeros((1, 8, 8, 3))
    model = ResNet(2)
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), jax.eval_shape(model.init, jax.random.key(0), x))
    variables["batch_stats"]["stem_norm"]["mean"] *= 0
    variables["params"]["stem_norm"]["bias"] *= 0
    stem_of = jax.jit(lambda image: model.apply(variables, image).tap("stem"))
    kernel = jnp.zeros((7, 7, 3, 64)).at[3, 3, 0].set(1.0)
    variables["params"]["stem_conv"]["kernel"] = kernel

    def lit(row, column):  # the convolution's (row, column) is the image's (2 row, 2 column)
        return (stem_of(x.at[0, 2 * row, 2 * column, 0].set(1.0))[0, :, :, 0] > 0).tolist()

    assert lit(1, 1) == [[True, True], [True, True]]
    assert lit(0, 0) == [[True, False], [False, False]]
    assert lit(2, 3) == [[False, False], [False, True]]


def test_unknown_depth_lists_the_depths():
    with pytest.raises(UserError, match=r"ResNet's depth must be an existing depth, got 20. .*\['18', '34', '50'\]"):
        ResNet(depth=20)
