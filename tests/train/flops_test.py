"""FLOPs against sums by hand, and what a device could do."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec as P

from jaxdistill import products
from jaxdistill.errors import UserError
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.train import flops

SHAPE = jax.ShapeDtypeStruct


def test_a_product():
    counted = flops.count(lambda a, b: nn.relu(a @ b) + 1.0, SHAPE((3, 5), jnp.float32), SHAPE((5, 7), jnp.float32))
    assert counted == {"float32": 2 * 3 * 5 * 7}


def test_derivatives_of_a_product_with_weights_in_forward_mode():
    """Those by the inputs and by the weights, and no more for unused values."""
    x, weights = SHAPE((3, 5), jnp.float32), SHAPE((5, 7), jnp.float32)
    assert flops.count(lambda *x: jax.jvp(products.multiply, x, x)[1], x, weights) == {"float32": 2 * 210}


def test_batched_products_by_type():
    def function(a, b):
        return jnp.einsum("bij,bjk->bik", a, b), a.astype(jnp.bfloat16)[0] @ b.astype(jnp.bfloat16)[0]

    counted = flops.count(function, SHAPE((4, 3, 5), jnp.float32), SHAPE((4, 5, 7), jnp.float32))
    assert counted == {"float32": 4 * 210, "bfloat16": 210}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_and_its_gradients(stride, groups):
    """Forward, and twice as much backward: by the images and by the kernel."""
    conv = nn.Conv(6, (3, 3), strides=stride, feature_group_count=groups, use_bias=False)
    x = SHAPE((2, 8, 8, 4), jnp.float32)
    kernel = SHAPE((3, 3, 4 // groups, 6), jnp.float32)
    forward = 2 * 2 * (8 // stride) ** 2 * 6 * 9 * 4 // groups

    def run(kernel, x):
        return conv.apply({"params": {"kernel": kernel}}, x).sum()

    assert flops.count(run, kernel, x) == {"float32": forward}
    assert flops.count(jax.value_and_grad(run, (0, 1)), kernel, x) == {"float32": 3 * forward}


def test_loops_branches_and_programs_within():
    def function(a):
        a = jax.jit(lambda x: x @ x)(a)
        a, _ = jax.lax.scan(lambda x, _: (x @ x, None), a, length=3)
        a = jax.lax.cond(a[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, a)
        return jax.vmap(lambda x: x @ a)(jnp.stack([a, a]))

    assert flops.count(function, SHAPE((4, 4), jnp.float32)) == {"float32": (1 + 3 + 2 + 2) * 2 * 4**3}


def test_a_kernel_counts_every_block_of_its_grid_on_every_device():
    def kernel(x, y):
        y[...] = x[...] @ x[...]

    def function(x):
        block = pl.BlockSpec((4, 4), lambda i, j: (i, j))
        return pl.pallas_call(kernel, x, grid=(2, 3), in_specs=[block], out_specs=block)(x)

    mesh = jax.sharding.AbstractMesh((5,), ("data",))
    split = jax.shard_map(function, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
    assert flops.count(function, SHAPE((8, 12), jnp.float32)) == {"float32": 2 * 3 * 2 * 4**3}
    assert flops.count(split, SHAPE((40, 12), jnp.float32)) == {"float32": 5 * 2 * 3 * 2 * 4**3}


def test_a_published_number():
    """He et al.'s ResNet-20 for CIFAR: 40.8 million multiplications and additions."""
    net = CifarResNet(10, depth=20)
    x = SHAPE((1, 32, 32, 3), jnp.float32)
    known = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), x)
    counted = flops.count(lambda known, x: net.apply(known, x, train=False).logits, known, x)
    assert counted["float32"] == pytest.approx(2 * 40.8e6, rel=2e-3)


@pytest.mark.parametrize(
    ("kind", "bfloat16"),
    [
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", None),
        ("Tesla T4", None),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v6 lite", 918e12),
        ("cpu", None),
    ],
)
def test_peaks(kind, bfloat16):
    assert flops.peaks(kind).get("bfloat16") == bfloat16


def test_the_least_time():
    a100 = "NVIDIA A100-SXM4-80GB"
    assert flops.least_seconds({"float32": 156e12, "bfloat16": 156e12}, a100) == pytest.approx(1.5)
    assert flops.least_seconds({"float32": 1.0, "float64": 1.0}, a100) is None
    assert flops.least_seconds({"float32": 1.0}, "cpu") is None
    assert flops.least_seconds({"float32": 3e9, "bfloat16": 1e9}, "cpu", peak=2e9) == pytest.approx(2.0)
    with pytest.raises(UserError, match="peak_flops"):
        flops.least_seconds({}, "cpu", peak=-1.0)


def test_unused_products_do_not_count():
    def run(x):
        unread = x @ x @ x
        return x @ x, unread.shape[0]

    assert flops.count(run, jnp.ones((4, 4))) == {"float32": 2 * 4**3}
