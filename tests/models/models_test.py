"""Models: published parameter counts, named taps, dtypes, batch statistics, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.mlp import MLP
from jaxdistill.models.residual import convolution
from jaxdistill.models.resnet import ResNet
from jaxdistill.models.wide_resnet import WideResNet

SMALL, LARGE = (2, 32, 32, 3), (2, 224, 224, 3)


def shapes(model, shape, train=False):
    key, x = jax.random.key(0), jnp.zeros(shape)
    return jax.eval_shape(lambda: model.init_with_output({"params": key, "dropout": key}, x, train))


def resnet_by_hand(depth, classes):
    """Basic blocks of 16, 32, 64 channels with projection shortcuts: counted on paper."""
    n, total = (depth - 2) // 6, 3 * 9 * 16 + 2 * 16
    before = 16
    for channels in (16, 32, 64):
        total += n * (2 * 9 * channels * channels + 4 * channels)
        if before != channels:
            total += 9 * channels * (before - channels) + before * channels + 2 * channels
        before = channels
    return total + 64 * classes + classes


PUBLISHED = [
    (MLP(10, (64,)), (2, 8, 8, 1), 64 * 64 + 64 + 64 * 10 + 10),
    (CifarResNet(100, 8), SMALL, resnet_by_hand(8, 100)),
    (CifarResNet(100, 14), SMALL, resnet_by_hand(14, 100)),
    (CifarResNet(100, 20), SMALL, 278_324),
    (CifarResNet(100, 32), SMALL, 472_756),
    (CifarResNet(10, 44), SMALL, resnet_by_hand(44, 10)),
    (CifarResNet(100, 56), SMALL, 861_620),
    (CifarResNet(100, 110), SMALL, 1_736_564),
    (CifarResNet(100, 8, 4), SMALL, 1_233_540),
    (CifarResNet(100, 32, 4), SMALL, 7_433_860),
    (ResNet(1000, 18), LARGE, 11_689_512),
    (ResNet(1000, 34), LARGE, 21_797_672),
    (ResNet(1000, 50), LARGE, 25_557_032),
    (WideResNet(100, 16, 2), SMALL, 703_284),
    (WideResNet(100, 40, 1), SMALL, 569_780),
    (WideResNet(100, 40, 2), SMALL, 2_255_156),
    (WideResNet(100, 28, 10), SMALL, 36_536_884),
]


@pytest.mark.parametrize(("model", "shape", "parameters"), PUBLISHED, ids=lambda x: str(x)[:60].split("\n")[0])
def test_parameters(model, shape, parameters):
    _, variables = shapes(model, shape)
    assert core.count(variables["params"]) == parameters


TAPS = [
    (MLP(10, (32, 16)), SMALL, {"hidden1": (2, 32), "hidden2": (2, 16), "pooled": (2, 16)}),
    (
        CifarResNet(10, 8),
        SMALL,
        {
            "stem": (2, 32, 32, 16),
            "stage1": (2, 32, 32, 16),
            "stage1/preact": (2, 32, 32, 16),
            "stage1/block0": (2, 32, 32, 16),
            "stage2": (2, 16, 16, 32),
            "stage3": (2, 8, 8, 64),
            "pooled": (2, 64),
        },
    ),
    (
        ResNet(10, 50),
        LARGE,
        {"stem": (2, 56, 56, 64), "stage1": (2, 56, 56, 256), "stage4": (2, 7, 7, 2048), "pooled": (2, 2048)},
    ),
    (
        WideResNet(10, 16, 2),
        SMALL,
        {"stem": (2, 32, 32, 16), "stage1/block1": (2, 32, 32, 32), "stage3/preact": (2, 8, 8, 128), "pooled": (2, 128)},
    ),
]


@pytest.mark.parametrize(("model", "shape", "taps"), TAPS, ids=["mlp", "cifar_resnet", "resnet", "wide_resnet"])
def test_taps(model, shape, taps):
    output, _ = shapes(model, shape)
    assert output.logits.shape == (2, 10)
    assert {name: output.tap(name).shape for name in taps} == taps


SAMPLES = [MLP(4, (6,), dropout=0.5), CifarResNet(4, 8, stem=4), WideResNet(4, 10, 1, dropout=0.5), ResNet(4, 18)]


@pytest.mark.parametrize("model", SAMPLES, ids=lambda model: type(model).__name__)
def test_bfloat16_is_for_computing_only(model):
    output, variables = shapes(model.clone(dtype=jnp.bfloat16), SMALL)
    assert {x.dtype for x in jax.tree.leaves(output)} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_preactivation_taps_are_what_the_relu_saw():
    for model in (CifarResNet(4, 8), WideResNet(4, 10, 1)):
        x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
        output, _ = jax.jit(model.init_with_output)(jax.random.key(1), x)
        for stage in ("stage1", "stage2", "stage3"):
            assert (output.tap(f"{stage}/preact") < 0).any()
            np.testing.assert_array_equal(output.tap(stage), jnp.maximum(output.tap(f"{stage}/preact"), 0))


def test_statistics_move_in_training_alone():
    model = CifarResNet(4, 8)
    x = 3 + jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    _, trained = jax.jit(lambda v: model.apply(v, x, True, mutable=["batch_stats"]))(variables)
    _, inferred = jax.jit(lambda v: model.apply(v, x, False, mutable=["batch_stats"]))(variables)
    jax.tree.map(np.testing.assert_array_equal, inferred["batch_stats"], variables["batch_stats"])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), trained["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


def test_strided_convolution_pads_as_pytorch():
    """One pixel on each side, so that the first output is centred on the first pixel; XLA's SAME starts at 0."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    conv = convolution(1, 3, 2, dtype=jnp.float32, name="conv")
    ones = {"params": {"kernel": jnp.ones((3, 3, 1, 1))}}
    got = conv.apply(ones, x)[0, :, :, 0]
    np.testing.assert_array_equal(got, [[0 + 1 + 4 + 5, 1 + 2 + 3 + 5 + 6 + 7], [4 + 5 + 8 + 9 + 12 + 13, 90]])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (CifarResNet(4, 21), "no depth 21; it is 6 n \\+ 2, such as 20 or 26"),
        (WideResNet(4, 17), "no depth 17; it is 6 n \\+ 4, such as 16 or 22"),
        (ResNet(4, 51), "no depth 51; there are \\[18, 34, 50\\]"),
    ],
)
def test_wrong_depth(model, message):
    with pytest.raises(UserError, match=message):
        shapes(model, SMALL)
