"""Wider and deeper networks of the same function."""

import dataclasses

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

import structured
from jaxdistill.compress import unit_groups, widen
from jaxdistill.errors import UserError
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.mlp import MLP

SLOW = pytest.mark.slow


def apply(model, variables, batch):
    return jax.jit(model.apply)(unflatten_dict(dict(variables), sep="/"), batch)


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        *(
            pytest.param(name, marks=SLOW)
            for name in ("decoder, llama", "cifar_resnet", "vgg", "mobilenet_v2", "vit", "encoder", "convnext")
        ),
    ],
)
def test_a_wider_network_has_the_same_function(name):
    model, variables = structured.draw(name)
    units = unit_groups.find(model.apply, unflatten_dict(variables, sep="/"), model.batch)
    sizes = {n: group.size + group.size // 2 for n, group in units.groups.items() if group.kind in widen.KINDS}
    wide = jax.jit(lambda variables: widen.widen(variables, units, sizes))(variables)
    assert sum(x.size for x in wide.values()) > sum(x.size for x in variables.values())
    expected = apply(model, variables, model.batch)
    found = structured.call(model, wide, model.batch)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_copies_by_hand():
    axis = unit_groups.Axis("params/w", 0, (2,), reads=-1)
    np.testing.assert_array_equal(widen.copy_units(np.array([[6.0], [4.0]]), axis, 3), [[3], [4], [3]])
    axis = dataclasses.replace(axis, reads=0)
    np.testing.assert_array_equal(widen.copy_units(np.array([[6.0], [4.0]]), axis, 3), [[6], [4], [6]])


def test_a_deeper_perceptron_has_the_same_function():
    model, variables = structured.draw("mlp")
    deep = widen.insert_dense(variables, after=1)
    assert {name: x.shape for name, x in deep.items() if "kernel" in name} == {
        "params/dense1/kernel": (16, 12),
        "params/dense2/kernel": (12, 12),
        "params/dense3/kernel": (12, 8),
        "params/head/kernel": (8, 5),
    }
    deeper = MLP(5, (12, 12, 8))
    found = jax.jit(deeper.apply)(unflatten_dict(deep, sep="/"), model.batch["x"]).logits
    np.testing.assert_allclose(found, apply(model, variables, model.batch), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_deeper_residual_networks_have_the_same_function():
    module, _ = structured.NETWORKS["decoder"]
    model, variables = structured.draw("decoder")
    deep = widen.insert_block(variables, after=0)
    found = jax.jit(module.clone(layers=2).apply)(unflatten_dict(deep, sep="/"), model.batch["x"]).logits
    expected = apply(model, variables, model.batch)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.slow
def test_deeper_convolutional_networks_have_the_same_function():
    model, variables = structured.draw("cifar_resnet")
    # After an identity, blocks of a stage that stays in shape may be repeated: those with norm2 at 0 add nothing.
    for stage in (1, 2, 3):
        block = widen.insert_block(variables, 0, f"stage{stage}_block", "norm2/(scale|bias)$")
        variables = {name: x for name, x in block.items() if f"stage{stage}_block1/shortcut" not in name}
        if stage > 1:
            kernel = f"params/stage{stage}_block1/conv1/kernel"
            variables[kernel] = np.zeros((3, 3, variables[kernel].shape[3], variables[kernel].shape[3]), np.float32)
    found = jax.jit(CifarResNet(5, depth=14).apply)(unflatten_dict(variables, sep="/"), model.batch["x"]).logits
    expected = apply(model, structured.draw("cifar_resnet")[1], model.batch)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_mistakes():
    model, variables = structured.draw("mlp")
    units = unit_groups.find(model.apply, unflatten_dict(variables, sep="/"), model.batch)
    with pytest.raises(UserError, match="sizes must name groups of filters, heads or hidden units, got 'foo'"):
        widen.widen(variables, units, {"foo": 3})
    with pytest.raises(UserError, match="sizes of dense1/kernel:1 must be at least its 12 units, got 3"):
        widen.widen(variables, units, {"dense1/kernel:1": 3})
    with pytest.raises(UserError, match="zeros must match an array of dense1, got 'down'. It has .*'dense1/bias'"):
        widen.insert_block(variables, after=1, prefix="dense", zeros="down")
