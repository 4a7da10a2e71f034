import jax
import jax.numpy as jnp
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.resnet import ResNet


def shapes(depth, side=224, **fields):
    x = jnp.zeros((2, side, side, 3))
    result, variables = jax.eval_shape(ResNet(depth=depth, **fields).init_with_output, jax.random.key(0), x)
    return {name: tap.shape for name, tap in result.taps.items()}, core.count(variables["params"])


# https://pytorch.org/vision/stable/models.html
@pytest.mark.parametrize(("depth", "published"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_parameters_as_published(depth, published):
    assert shapes(depth)[1] == published


@pytest.mark.parametrize(
    ("depth", "groups", "width_per_group", "published"),
    [
        pytest.param(101, 1, 64, 44_549_160, marks=pytest.mark.slow),
        pytest.param(152, 1, 64, 60_192_808, marks=pytest.mark.slow),
        (50, 32, 4, 25_028_904),
        pytest.param(101, 32, 8, 88_791_336, marks=pytest.mark.slow),
        pytest.param(101, 64, 4, 83_455_272, marks=pytest.mark.slow),
        pytest.param(50, 1, 128, 68_883_240, marks=pytest.mark.slow),
    ],
)
def test_parameters_of_deeper_wider_and_grouped_ones_as_published(depth, groups, width_per_group, published):
    assert shapes(depth, groups=groups, width_per_group=width_per_group)[1] == published


def test_form_of_cifar_keeps_the_places_of_the_first_stage():
    taps, parameters = shapes(50, 32, classes=100, form="cifar")
    assert parameters == 23_705_252  # RepDistiller's ResNet50
    assert [taps[name] for name in ("stem", "stage1", "stage4")] == [(2, 32, 32, 64), (2, 32, 32, 256), (2, 4, 4, 2048)]


def test_blocks_and_width_replace_those_of_the_depth():
    taps, _ = shapes(50, 32, width=4, depths=(2, 1))
    assert [name for name in taps if "block" in name] == ["stage1/block0", "stage1/block1", "stage2/block0"]
    assert taps["pooled"] == (2, 32)


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
    depths = r"\['101', '152', '18', '34', '50'\]"
    with pytest.raises(UserError, match=r"ResNet's depth must be an existing depth, got 20\. .*" + depths):
        ResNet(depth=20)


@pytest.mark.parametrize("fields", [dict(groups=32), dict(width_per_group=4), dict(stride_first=True)])
def test_basic_blocks_have_no_fields_of_bottlenecks(fields):
    with pytest.raises(UserError, match=r"must be 1, 64 and False at depth 18, got .*\. Use them from depth 50 on"):
        ResNet(depth=18, **fields)
