import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress import fold_batchnorm, layer_graph
from jaxdistill.core import Output
from jaxdistill.models import residual
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.mobilenet_v2 import MobileNetV2
from jaxdistill.models.shufflenet_v1 import ShuffleNetV1
from jaxdistill.models.shufflenet_v2 import ShuffleNetV2
from jaxdistill.models.vgg import VGG
from jaxdistill.models.wide_resnet import WideResNet
from jaxdistill.networks import Frozen


def alive(module, x, seed=0):
    """Variables with statistics, scales and biases that are not those of the start."""
    variables = jax.jit(lambda: module.init(jax.random.key(seed), x))()
    leaves, tree = jax.tree.flatten(variables)
    random = np.random.default_rng(seed)
    leaves = [leaf * jnp.float32(random.uniform(0.5, 1.5, leaf.shape)) for leaf in leaves]
    whole = jax.tree.unflatten(tree, leaves)
    shifted = jax.tree.map(lambda x: x + jnp.float32(random.normal(0, 0.1, x.shape)), whole["params"])
    stats = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 0.2 * (path[-1].key == "mean"), whole.get("batch_stats", {})
    )
    return {"params": shifted} | ({"batch_stats": stats} if stats else {})


def said(source, variables, x):
    return jax.jit(lambda v: source(v, {"image": x}, {}, None)[0])(variables)


class Bottlenecked(nn.Module):
    """One block of a ResNet-50."""

    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        block = residual.Bottleneck(2, stride=2, dtype=self.dtype, name="block")(x, train)
        return Output(jnp.mean(block, (1, 2)), {"block": block})


MODELS = {
    "cifar_resnet": (CifarResNet(10, depth=8), (9, 9)),
    "bottleneck": (Bottlenecked(), (4, 4)),
    # Of the 3 blocks the second norm each; the others read sums, or what the tap `stem` tells.
    "wide_resnet": (WideResNet(10, depth=10, width=1), (3, 7)),
    "vgg, with biases": (VGG(10, depth=8, norm=True, channels=(4, 4, 4, 4, 4), form="cifar"), (5, 5)),
    "mobilenet_v2, by channel": (MobileNetV2(10, width=0.25, depths=(1, 1, 0, 0, 0, 0, 0)), (7, 7)),
    "shufflenet_v1, groups": (ShuffleNetV1(10, width=0.25, depths=(2,)), (7, 7)),
    "shufflenet_v2": (ShuffleNetV2(10, channels=(8, 12), depths=(2,)), (10, 10)),
}
FAST = ("cifar_resnet", "bottleneck", "wide_resnet")


@pytest.mark.parametrize("name", [x if x in FAST else pytest.param(x, marks=pytest.mark.slow) for x in MODELS])
def test_a_folded_network_has_the_same_output_and_taps(name):
    module, (folded, norms) = MODELS[name]
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables, source = alive(module, x), Frozen(module, fold=True)
    reduced = source.for_inference(variables, {"image": x})
    shifts = [p for p, _ in jax.tree_util.tree_leaves_with_path(reduced["params"]) if p[-1].key == fold_batchnorm.SHIFT]
    kept = len(jax.tree.leaves(reduced.get("batch_stats", {}))) // 2
    assert (len(shifts), len(shifts) + kept) == (folded, norms)
    whole, less = said(source, variables, x), said(source, reduced, x)
    assert whole.taps.keys() == less.taps.keys()
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(less), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5 * float(jnp.abs(one).max()))
    assert not np.array_equal(whole.logits, jnp.zeros_like(whole.logits))


class Between(nn.Module):
    """A convolution, a norm, and somebody else who reads what is between them, or not."""

    reader: str

    @nn.compact
    def __call__(self, x, train=False):
        between = nn.Conv(4, (3, 3), name="conv")(x)
        y = nn.BatchNorm(use_running_average=True, name="norm")(between)
        taps = {"tap": between} if self.reader == "tap" else {}
        y = y + between if self.reader == "shortcut" else y
        return y, taps


@pytest.mark.parametrize("reader", ["nobody", "tap", "shortcut"])
def test_a_convolution_with_another_reader_is_not_folded(reader):
    x = jnp.ones((1, 4, 4, 3))
    module = Between(reader)
    variables = alive(module, x)
    found = layer_graph.trace(lambda v: module.apply(v, x), variables).pairs
    assert found == ({("conv",): (("norm",), 1e-5)} if reader == "nobody" else {})


class Twice(nn.Module):
    """One convolution before two norms."""

    @nn.compact
    def __call__(self, x, train=False):
        conv = nn.Conv(3, (3, 3), name="conv")
        norm = lambda number: nn.BatchNorm(use_running_average=True, name=f"norm{number}")  # noqa: E731
        return norm(2)(conv(norm(1)(conv(x))))


def test_a_layer_that_is_called_twice_is_not_folded():
    x = jnp.ones((1, 4, 4, 3))
    variables = alive(Twice(), x)
    assert layer_graph.trace(lambda v: Twice().apply(v, x), variables).pairs == {}


def test_biases_and_missing_scales_are_folded_too():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.BatchNorm(use_running_average=True, use_scale=False, use_bias=False)(nn.Dense(5)(x))
            return nn.BatchNorm(use_running_average=True)(nn.Dense(3)(nn.relu(x)))

    x = jax.random.normal(jax.random.key(0), (4, 6))
    variables = alive(Net(), x)
    folded = fold_batchnorm.fold(variables, layer_graph.trace(lambda v: Net().apply(v, x), variables))
    assert "batch_stats" not in folded
    with nn.intercept_methods(fold_batchnorm.apply_folded):
        found = Net().apply(folded, x)
    np.testing.assert_allclose(found, Net().apply(variables, x), rtol=1e-5, atol=1e-6)


def test_bfloat16_kernels_are_stored_as_they_are_used():
    module, x = CifarResNet(10, depth=8, dtype=jnp.bfloat16), jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables, source = alive(module, x), Frozen(module)
    reduced = source.for_inference(variables, {"image": x})
    kinds = {p[-2].key: leaf.dtype for p, leaf in jax.tree_util.tree_leaves_with_path(reduced["params"])}
    assert kinds["conv1"] == jnp.bfloat16
    assert kinds["head"] == jnp.float32
    whole, less = said(source, variables, x), said(source, reduced, x)
    jax.tree.map(np.testing.assert_array_equal, whole, less)
    assert source.full_precision.module.dtype == jnp.float32


def test_reduced_precision_has_nearly_the_same_output():
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    module = Bottlenecked()
    variables = alive(module, x)
    exact = said(Frozen(module), variables, x).logits
    for source in (Frozen(module, fold=True, quantize="int8"), Frozen(Bottlenecked(jnp.bfloat16), fold=True)):
        found = said(source, source.for_inference(variables, {"image": x}), x).logits
        error = float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact))
        assert 1e-5 < error < 0.05


class Unfoldable(nn.Module):
    """A BatchNorm that no kernel can take in."""

    kind: str = ""

    @nn.compact
    def __call__(self, x, train=False):
        axis = {"first axis": 1, "two axes": (-2, -1)}.get(self.kind, -1)
        conv = nn.Conv(4, (3, 3), name="conv")
        y = nn.WeightNorm(conv)(x) if self.kind == "weight norm" else conv(x)
        y = nn.BatchNorm(use_running_average=not train, axis=axis, name="norm")(y)
        if self.kind == "shared kernel":
            y = y + jnp.sum(conv.variables["params"]["kernel"])
        return Output(jnp.mean(y, (1, 2)), {"y": y})


@pytest.mark.parametrize("kind", ["first axis", "two axes", "weight norm", "shared kernel"])
def test_what_cannot_be_folded_exactly_stays(kind):
    module, x = Unfoldable(kind), jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    variables = alive(module, x)
    source = Frozen(module, fold=True)
    folded = source.for_inference(variables, {"image": x})
    assert "batch_stats" in folded
    np.testing.assert_allclose(said(source, folded, x).logits, module.apply(variables, x).logits, rtol=1e-5, atol=1e-6)
