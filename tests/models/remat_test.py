import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.convnext import ConvNeXt
from jaxdistill.models.mobilenet_v2 import MobileNetV2
from jaxdistill.models.resnet import ResNet
from jaxdistill.models.shufflenet_v1 import ShuffleNetV1
from jaxdistill.models.shufflenet_v2 import ShuffleNetV2
from jaxdistill.models.wide_resnet import WideResNet

MODELS = {
    "cifar_resnet": (lambda remat: CifarResNet(3, depth=8, remat=remat), ("block", "products")),
    "wide_resnet": (lambda remat: WideResNet(3, depth=10, width=1, remat=remat), ("block",)),
    "mobilenet_v2": (
        lambda remat: MobileNetV2(3, width=0.25, depths=(1, 1, 0, 0, 0, 0, 0), form="cifar", remat=remat),
        ("block",),
    ),
    "shufflenet_v1": (
        lambda remat: ShuffleNetV1(3, groups=1, width=0.25, depths=(2,), form="cifar", remat=remat),
        ("block",),
    ),
    "shufflenet_v2": (
        lambda remat: ShuffleNetV2(3, channels=(8, 12), depths=(2,), form="cifar", remat=remat),
        ("block",),
    ),
    "convnext": (lambda remat: ConvNeXt(3, depths=(1, 1), widths=(4, 4), patch=2, remat=remat), ("block", "products")),
}


def gradient(module, x):
    """The jitted gradient of the sum of squared logits in training, with the new statistics."""

    def loss(params, stats):
        result, changed = module.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(result.logits**2), changed

    return jax.jit(jax.grad(loss, has_aux=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_gradients_statistics_and_names_are_the_same(name):
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    make, policies = MODELS[name]
    variables = jax.jit(lambda: make("").init(jax.random.key(0), x))()
    expected = gradient(make(""), x)(variables["params"], variables.get("batch_stats", {}))
    for remat in policies:
        module = make(remat)
        shapes = jax.eval_shape(lambda module=module: module.init(jax.random.key(0), x))
        assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)
        actual = gradient(module, x)(variables["params"], variables.get("batch_stats", {}))
        for one, right in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
            np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-5 * float(jnp.abs(one).max()) + 1e-12)


def computed(remat):
    """How many convolutions a gradient of a ResNet-8 computes, as lowered."""
    x = jnp.zeros((1, 8, 8, 3))
    module = CifarResNet(3, depth=8, remat=remat)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    return gradient(module, x).lower(shapes["params"], shapes["batch_stats"]).as_text().count("stablehlo.convolution")


def test_block_recomputes_convolutions_and_products_does_not():
    whole = computed("")
    assert computed("products") == whole
    assert computed("block") >= whole + 6


@pytest.mark.slow
@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="XLA's CPU backend of older versions computes all but once")
def test_rematerialisation_reduces_memory():
    x = jnp.zeros((32, 32, 32, 3))

    def temporary(remat):
        module = CifarResNet(3, depth=20, remat=remat)
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
        return gradient(module, x).lower(shapes["params"], shapes["batch_stats"]).compile().memory_analysis()

    whole, products, block = (temporary(remat).temp_size_in_bytes for remat in ("", "products", "block"))
    assert block < 0.7 * whole
    assert block < products < whole


def test_unknown_policy_is_refused():
    for make in (CifarResNet, ResNet, WideResNet):
        with pytest.raises(UserError, match="block"):
            make(3, depth={CifarResNet: 8, ResNet: 18, WideResNet: 10}[make], remat="blocks")
