import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.models import residual


def test_strided_convolution_pads_as_torch():
    image, kernel = np.arange(16.0).reshape(4, 4), np.arange(1.0, 10.0).reshape(3, 3)
    layer = residual.conv(1, 3, stride=2, dtype=jnp.float32, name="conv")
    params = {"kernel": jnp.asarray(kernel[:, :, None, None], jnp.float32)}
    result = layer.apply({"params": params}, jnp.asarray(image[None, :, :, None], jnp.float32))
    # torch.nn.Conv2d(1, 1, 3, stride=2, padding=1): one zero on each side, a window at every other place.
    padded = np.pad(image, 1)
    expected = [[np.sum(padded[i : i + 3, j : j + 3] * kernel) for j in (0, 2)] for i in (0, 2)]
    assert expected[0][0] == 0 * 5 + 1 * 6 + 4 * 8 + 5 * 9
    np.testing.assert_array_equal(result[0, :, :, 0], expected)


def test_pointwise_convolution_with_stride_takes_the_first_of_each_pair():
    layer = residual.conv(1, 1, stride=2, dtype=jnp.float32, name="conv")
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    result = layer.apply({"params": {"kernel": jnp.ones((1, 1, 1, 1))}}, image)
    np.testing.assert_array_equal(result[0, :, :, 0], [[0, 2], [8, 10]])


def test_convolution_starts_with_kaiming_fan_out():
    layer = residual.conv(64, 3, dtype=jnp.float32, name="conv")
    kernel = layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 8)))["params"]["kernel"]
    assert kernel.shape == (3, 3, 8, 64)
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (3 * 3 * 64)), rtol=0.03)


def test_classifier_starts_as_torch_linear():
    kernel = residual.classifier(50).init(jax.random.key(0), jnp.zeros((1, 100)))["params"]["kernel"]
    assert 0.099 < np.abs(kernel).max() <= 0.1


def test_norm_by_hand():
    x = jnp.asarray([1.001, 0.999]).reshape(2, 1, 1, 1)  # mean 1, biased variance 1e-6
    variables = {
        "params": {"scale": jnp.ones(1), "bias": jnp.zeros(1)},
        "batch_stats": {"mean": jnp.zeros(1), "var": jnp.ones(1)},
    }
    result = residual.norm(False, dtype=jnp.float32, name="norm").apply(variables, x)
    np.testing.assert_allclose(result.ravel(), np.array([1.001, 0.999]) / np.sqrt(1 + 1e-5), rtol=1e-6)

    layer = residual.norm(True, dtype=jnp.float32, name="norm")
    result, changed = layer.apply(variables, x - 1, mutable=["batch_stats"])
    np.testing.assert_allclose(result.ravel(), np.array([1e-3, -1e-3]) / np.sqrt(1e-6 + 1e-5), rtol=1e-3)
    _, changed = layer.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(changed["batch_stats"]["mean"], [0.1], rtol=1e-6)
    np.testing.assert_allclose(changed["batch_stats"]["var"], [0.9], rtol=1e-6)


@pytest.mark.parametrize(("first", "side"), [(False, 8), (True, 4)])
def test_bottleneck_strides_in_its_3x3_or_in_its_first_1x1(first, side):
    block = residual.Bottleneck(2, stride=2, stride_first=first)
    _, state = jax.eval_shape(
        lambda x: block.init_with_output(jax.random.key(0), x, capture_intermediates=True),
        jnp.zeros((1, 8, 8, 3)),
    )
    shapes = {name: layer["__call__"][0].shape for name, layer in state["intermediates"].items() if "conv" in name}
    assert shapes == {
        "conv1": (1, side, side, 2),
        "conv2": (1, 4, 4, 2),
        "conv3": (1, 4, 4, 8),
        "shortcut_conv": (1, 4, 4, 8),
    }


def test_grouped_bottlenecks_have_a_width_for_each_group():
    # resnext50_32x4d: 64 * 4 / 64 channels in each of 32 groups.
    block = residual.Bottleneck(64, groups=32, width_per_group=4, bias=True)
    params = jax.eval_shape(block.init, jax.random.key(0), jnp.zeros((1, 2, 2, 256)))["params"]
    assert params["conv2"]["kernel"].shape == (3, 3, 4, 128)
    assert params["conv3"]["kernel"].shape == (1, 1, 128, 256)
    assert params["conv1"]["bias"].shape == (128,)


@pytest.mark.parametrize(("block", "last"), [(residual.BasicBlock, "norm2"), (residual.Bottleneck, "norm3")])
def test_block_with_a_zero_branch_is_its_shortcut(block, last):
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 8))
    silent = block(8 if last == "norm2" else 2)
    variables = silent.init(jax.random.key(0), x)
    assert not [name for name in variables["params"] if "shortcut" in name]
    variables["params"][last]["scale"] = jnp.zeros(8)
    np.testing.assert_array_equal(silent.apply(variables, x), x)


def test_stride_alone_adds_a_projection():
    result, variables = jax.eval_shape(
        residual.BasicBlock(8, stride=2).init_with_output, jax.random.key(0), jnp.zeros((1, 4, 4, 8))
    )
    assert result.shape == (1, 2, 2, 8)
    assert variables["params"]["shortcut_conv"]["kernel"].shape == (1, 1, 8, 8)


def test_pool_is_a_float32_mean_over_space():
    x = jnp.asarray([256.0, 1.0, 1.0, 1.0], jnp.bfloat16).reshape(1, 2, 2, 1)
    result = residual.pool(x)
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(result, [[64.75]])  # bfloat16 has 64.5 and 65


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_relu_after_rounding_is_rounding_after_relu(dtype):
    x = jnp.linspace(-3.0, 3.0, 999)

    def outcome(function):
        return jax.vjp(function, x)[0], jax.vjp(function, x)[1](jnp.arange(999).astype(dtype))[0]

    expected = outcome(lambda x: jax.nn.relu(x.astype(dtype)))
    for got, wanted in zip(outcome(lambda x: residual.relu(x, dtype)), expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("block", [residual.BasicBlock, residual.Bottleneck])
def test_a_block_of_bfloat16_rounds_its_sum_once(block):
    layer = block(4, dtype=jnp.bfloat16)
    x = jnp.ones((1, 4, 4, 4 * block.expansion), jnp.bfloat16)
    assert jax.eval_shape(lambda: layer.init_with_output(jax.random.key(0), x)[0]).dtype == jnp.float32


def test_taps_of_a_stage_have_the_dtype_of_its_input():
    taps, x = {}, jnp.ones((1, 4, 4, 4), jnp.bfloat16)
    block = lambda **_: lambda x, train: x.astype(jnp.float32) - 0.5  # noqa: E731
    residual.run_stage(x, taps, "stage", block, blocks=2, stride=1, train=False)
    assert {name: tap.dtype for name, tap in taps.items()} == dict.fromkeys(
        ("stage/block0", "stage/block1", "stage/preact", "stage"), x.dtype
    )
