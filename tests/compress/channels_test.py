import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from jaxdistill.compress.channels import is_kernel, layer_axes, summed_axes
from jaxdistill.compress.layer_graph import trace
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.encoder import Encoder

NAMES = {
    "mlp/dense0/kernel": ((4, 8), (0,)),
    "stage1/conv1/kernel": ((3, 3, 4, 8), (0, 1, 2)),
    "conv/kernel": ((3, 4, 8), (0, 1)),
    "block0/attention/query/kernel": ((8, 2, 4), (0,)),
    "block0/attention/out/kernel": ((2, 4, 8), (0, 1)),
    "blocks/attention/value/kernel": ((3, 8, 2, 4), (1,)),
    "blocks/attention/out/kernel": ((3, 2, 4, 8), (1, 2)),
    "blocks/feed_forward/up/kernel": ((3, 8, 16), (1,)),
    "embed/embedding": ((11, 8), (1,)),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_kernels_summed_axes(name):
    shape, expected = NAMES[name]
    assert summed_axes(name, shape) == expected
    assert layer_axes(name, shape) == tuple(range(name.startswith("blocks/"), len(shape)))
    assert is_kernel(name) == name.endswith("kernel")


@pytest.mark.parametrize("scan", [False, True])
def test_they_are_those_of_the_layers_of_a_transformer(scan):
    agree(Encoder(5, vocabulary=11, layers=2, width=16, heads=2, length=8, scan=scan), jnp.zeros((1, 8), int))


def test_they_are_those_of_the_layers_of_a_residual_network():
    agree(CifarResNet(3, depth=8), jnp.zeros((1, 8, 8, 3)))


def agree(module, x):
    """Asserts that names and shapes give the axes that the layers themselves sum over."""
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    graph = trace(lambda variables: module.apply(variables, x).logits, variables)
    assert len(graph.layers) > 6
    params = flatten_dict(variables["params"], sep="/")
    for path, (layer, ndim) in graph.layers.items():
        name = "/".join((*path, "kernel"))
        stacked = params[name].ndim - ndim
        count = (
            ndim - 1
            if isinstance(layer, nn.Conv)
            else len(tuple(jnp.atleast_1d(jnp.array(getattr(layer, "axis", -1)))))
        )
        assert summed_axes(name, params[name].shape) == tuple(range(stacked, stacked + count)), name
