"""Frozen networks: inference mode, and conversion to lower precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toys
from jaxdistill.build.networks import build_networks
from jaxdistill.config.members import NetworkConfig
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.methods.kd import KD
from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Context, Frozen, ImageSpec, Trained, for_inference
from jaxdistill.train.step import make_step

NET = toys.Net(norm=True, dropout=0.1)


def build(entries):
    context = Context(3, ImageSpec((4, 4, 1), (0.0,), (1.0,)))
    return build_networks({n: NetworkConfig.parse(entry, f"networks.{n}") for n, entry in entries.items()}, context)


def test_a_frozen_network_is_in_inference_mode_and_gets_no_gradient():
    """Neither its batch statistics nor its dropout take part, and no gradient reaches it."""
    teacher = toys.Net(norm=True, dropout=0.9)
    networks = {"teacher": Frozen(teacher), "student": Trained(NET)}
    tx, batch = optax.sgd(0.1), toys.batch()
    terms = {"kd": Term(KD())}
    state, frozen = toys.start(networks, terms, tx, batch)
    variables = frozen["teacher"]
    output, changed = networks["teacher"](variables, batch, {}, jax.random.key(0))
    np.testing.assert_array_equal(output.logits, teacher.apply(variables, batch["image"], train=False).logits)
    assert changed == {}
    step = jax.jit(make_step(networks, terms, tx))

    def loss(frozen):
        return step(state, frozen, batch)[1]["loss"]

    assert all((leaf == 0).all() for leaf in jax.tree.leaves(jax.grad(loss)(frozen)))


def test_folding_is_the_default_of_a_frozen_network_and_of_no_other():
    specs = {
        "teacher": {"source": "frozen", "model": "mlp", "weights": "stage:x"},
        "exact": {"source": "frozen", "model": "mlp", "weights": "stage:x", "fold": False},
        "student": {"source": "trained", "model": "mlp", "quantize": "int8"},
    }
    networks = build(specs)
    assert (networks["teacher"].fold, networks["exact"].fold) == (True, False)
    assert not isinstance(networks["student"], Frozen)
    assert not Frozen(MLP(3)).fold


@pytest.mark.parametrize(("key", "value", "word"), [("quantize", "int9", "int8"), ("fold", "yes", "fold")])
def test_fields_of_other_values_are_refused(key, value, word):
    with pytest.raises(UserError, match=word):
        build({"t": {"source": "frozen", "model": "mlp", "weights": "stage:x", key: value}})


@pytest.mark.parametrize(
    ("network", "is_reduced"),
    [
        (Frozen(MLP(3)), False),
        (Frozen(MLP(3), fold=True), False),
        (Frozen(MLP(3), quantize="int8"), True),
        (Frozen(MLP(3, dtype=jnp.bfloat16)), True),
    ],
)
def test_full_precision_is_the_network_in_float32_without_conversion(network, is_reduced):
    assert network.is_reduced_precision == is_reduced
    exact = network.full_precision
    assert not exact.is_reduced_precision
    assert (exact.fold, exact.quantize, exact.module.dtype) == (False, "", jnp.float32)


def test_variables_are_frozen_and_pass_unchanged_without_conversion():
    network, batch = Frozen(MLP(3)), {"image": jnp.zeros((2, 4, 4, 1))}
    variables = network.module.init(jax.random.key(0), batch["image"])
    assert network.partition(variables) == ({}, {}, variables)
    assert for_inference(network, variables, batch) is variables
    halved = for_inference(Frozen(MLP(3, dtype=jnp.bfloat16)), variables, batch)
    assert halved["params"]["head"]["kernel"].dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(halved)} > {jnp.dtype("float32")}


def test_a_network_that_was_not_converted_outputs_what_it_would_converted():
    net, batch = toys.Net(norm=True), toys.batch()
    variables = net.init(jax.random.key(0), batch["image"])
    network = Frozen(net, fold=True, quantize="int8")
    converted = network(for_inference(network, variables, batch), batch, {}, None)[0].logits
    plain = Frozen(net)(variables, batch, {}, None)[0].logits
    assert not jnp.array_equal(converted, plain)
    np.testing.assert_array_equal(network(variables, batch, {}, None)[0].logits, converted)
