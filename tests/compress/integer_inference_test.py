import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress import integer_inference, layer_graph
from jaxdistill.models.encoder import Encoder
from jaxdistill.networks import Frozen

LAYERS = {
    "conv": (nn.Conv(8, (3, 3)), (2, 6, 6, 4)),
    "strided": (nn.Conv(8, (3, 3), strides=2, padding=((1, 1), (1, 1)), use_bias=False), (2, 6, 6, 4)),
    "grouped": (nn.Conv(8, (1, 1), feature_group_count=2), (2, 6, 6, 4)),
    "dense": (nn.Dense(8), (5, 12)),
    "heads": (nn.DenseGeneral((2, 4)), (2, 5, 12)),
    "out": (nn.DenseGeneral(8, axis=(-2, -1)), (2, 5, 3, 4)),
}


class Alone(nn.Module):
    layer: nn.Module

    @nn.compact
    def __call__(self, x):
        return self.layer(x)


def reduced(module, x, seed=0):
    variables = module.init(jax.random.key(seed), x)
    return variables, integer_inference.int8(variables, layer_graph.trace(lambda v: module.apply(v, x), variables))


def apply(module, variables, x):
    with nn.intercept_methods(integer_inference.apply_quantized):
        return jax.jit(module.apply)(variables, x)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_int8_is_the_layer_of_the_rounded_numbers(name):
    layer, shape = LAYERS[name]
    module, x = Alone(layer), jax.random.normal(jax.random.key(1), shape)
    variables, less = reduced(module, x)
    own = less["params"]["layer"]
    assert own["kernel"].dtype == jnp.int8
    assert own[integer_inference.SCALE].shape == ((2, 4) if name == "heads" else (8,))
    axes = tuple(range(1, x.ndim)) if "kernel_size" in layer.__dict__ else (-1, -2) if name == "out" else -1
    step = jnp.max(jnp.abs(x), axes, keepdims=True) / 127
    rounded = jnp.round(x / step) * step
    kernel = own["kernel"] * own[integer_inference.SCALE].reshape(
        *[1] * (own["kernel"].ndim - own[integer_inference.SCALE].ndim), *own[integer_inference.SCALE].shape
    )
    np.testing.assert_allclose(kernel, variables["params"]["layer"]["kernel"], atol=float(jnp.abs(kernel).max()) / 250)
    expected = module.apply({"params": {"layer": dict(variables["params"]["layer"]) | {"kernel": kernel}}}, rounded)
    found = apply(module, less, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert float(jnp.max(jnp.abs(found - module.apply(variables, x)))) > 1e-5


@pytest.mark.parametrize("name", LAYERS)
def test_an_examples_output_does_not_depend_on_the_others(name):
    layer, shape = LAYERS[name]
    module, x = Alone(layer), jax.random.normal(jax.random.key(1), shape)
    _, less = reduced(module, x)
    louder = x.at[1:].mul(100.0)
    np.testing.assert_allclose(apply(module, less, x)[0], apply(module, less, louder)[0], rtol=1e-6, atol=1e-6)


def test_its_derivative_is_that_of_the_layer_without_rounding():
    module, x = Alone(nn.Dense(3)), jax.random.normal(jax.random.key(1), (2, 4))
    variables, less = reduced(module, x)
    found = jax.grad(lambda x: jnp.sum(apply(module, less, x) ** 2))(x)
    expected = jax.grad(lambda x: jnp.sum(module.apply(variables, x) ** 2))(x)
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.05)
    assert float(jnp.abs(found).min()) > 0


def test_zeros_stay_zeros():
    module, x = Alone(nn.Conv(3, (3, 3))), jnp.zeros((2, 4, 4, 1))
    variables = jax.tree.map(jnp.zeros_like, module.init(jax.random.key(0), x))
    less = integer_inference.int8(variables, layer_graph.trace(lambda v: module.apply(v, x), variables))
    np.testing.assert_array_equal(apply(module, less, x), jnp.zeros((2, 4, 4, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_a_transformer_looped_or_scanned(scan):
    module = Encoder(5, vocabulary=11, layers=1 + scan, width=16, heads=2, length=8, scan=scan)
    tokens = jnp.arange(8)[None] % 11
    variables = jax.jit(lambda: module.init(jax.random.key(0), tokens))()
    less = integer_inference.int8(variables, layer_graph.trace(lambda v: module.apply(v, tokens).logits, variables))
    kinds = {"/".join(k.key for k in p): x.dtype for p, x in jax.tree_util.tree_leaves_with_path(less["params"])}
    kernels = [dtype for name, dtype in kinds.items() if name.endswith("kernel") and "head" not in name]
    assert set(kernels) == {jnp.dtype(jnp.int8)}
    assert kinds["head/kernel"] == jnp.float32
    exact, found = jax.jit(module.apply)(variables, tokens).logits, apply(module, less, tokens).logits
    error = float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact))
    assert 1e-6 < error < 0.05


def test_its_weights_take_a_quarter_of_the_bytes():
    module, x = Alone(nn.Conv(64, (3, 3), use_bias=False)), jnp.ones((1, 4, 4, 64))
    source = Frozen(module, quantize="int8")
    assert source.is_reduced_precision
    variables, less = reduced(module, x)
    size = [sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (variables, less)]
    assert size[1] < 0.26 * size[0]


@pytest.mark.parametrize("name", ["conv", "strided", "grouped"])
def test_a_convolution_sums_whole_numbers_alike_in_int32_and_in_float32(name, monkeypatch):
    layer, shape = LAYERS[name]
    module, x = Alone(layer), jax.random.normal(jax.random.key(1), shape)
    _, less = reduced(module, x)
    found = apply(module, less, x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with nn.intercept_methods(integer_inference.apply_quantized):
        program = jax.make_jaxpr(module.apply)(less, x)
        assert "preferred_element_type=int32" in str(program)
        np.testing.assert_allclose(module.apply(less, x), found, rtol=1e-6, atol=1e-6)
