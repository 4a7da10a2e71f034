"""Optimizers of several networks: the networks of each, and updates as of each alone."""

import jax
import jax.numpy as jnp
import optax
import pytest

import toys
from jaxdistill.config.members import OptimizerConfig
from jaxdistill.core import Term
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.kd import KD
from jaxdistill.modules.heads import Linear
from jaxdistill.networks import Ema, Ensemble, Frozen, Head, Shared, Trained, in_order
from jaxdistill.train import units
from jaxdistill.train.units import Unit

NET = toys.Net()
NETWORKS = in_order(
    {
        "teacher": Frozen(NET),
        "small": Trained(NET),
        "wide": Trained(NET),
        "slow": Ema(of="wide"),
        "exit": Head("small", "stage1", Linear(toys.CLASSES)),
        "again": Shared(of="wide", input="image2"),
        "both": Ensemble(("small", "wide")),
    }
)


def test_networks_of_a_unit_need_each_others_weights_and_terms_follow_their_student():
    groups = units.group_networks(NETWORKS)
    assert groups == [("small", "exit"), ("wide", "slow")]
    terms = {
        "task": Term(CrossEntropy(), student="wide", teacher=None),
        "exit_kd": Term(KD(), student="exit"),
        "consistency": Term(KD(), student="again"),
        "joint": Term(KD(), student="both"),
    }
    assert units.group_terms(NETWORKS, terms, groups) == [("exit_kd", "joint"), ("task", "consistency")]
    joined = in_order(NETWORKS | {"top": Head("both", "stage1", Linear(toys.CLASSES))})
    assert units.group_networks(joined) == [("small", "exit", "wide", "slow", "top")]


PARAMS = {
    "small": {"kernel": jnp.array([1.0, -2.0])},
    "hint": {"kernel": jnp.array([0.5])},
    "wide": {"kernel": jnp.array([3.0, 4.0])},
}
GRADIENTS = jax.tree.map(lambda x: 10 * x, PARAMS)


def make_units(own=None, clip=1.0):
    """Returns the units of two students, of which the first has a term with parameters; the second's may be its own."""
    shared = OptimizerConfig.parse({"name": "sgd", "momentum": 0.9, "clip": clip}, "optimizer")
    rate = optax.constant_schedule(0.1)
    first = Unit(("small",), ("hint",), shared, rate, {})
    if own is None:
        return [first, Unit(("wide",), (), shared, rate, {})]
    spec = OptimizerConfig.parse(own, "optimizer")
    return [first, Unit(("wide",), (), spec, optax.constant_schedule(0.01), {}, True, True)]


@pytest.mark.parametrize("own", [None, {"name": "adamw", "weight_decay": 0.1, "clip": 3.0}])
def test_each_unit_is_updated_as_by_an_optimizer_of_its_own(own):
    parts = make_units(own)

    @jax.jit
    def update_twice(params, gradients):
        together = run_twice(units.combine(parts), params, gradients)
        alone = {unit.name: run_twice(unit.make(), unit.select(params), unit.select(gradients)) for unit in parts}
        return together, alone

    (updates, states), alone = update_twice(PARAMS, GRADIENTS)
    assert {*updates} == {*PARAMS}
    for name, (expected, state) in alone.items():
        assert toys.same(states[name], state)
        assert toys.same({key: updates[key] for key in expected}, expected)


def run_twice(tx, params, gradients):
    """Returns the second updates of an optimizer, and its state."""
    _, state = tx.update(gradients, tx.init(params), params)
    return tx.update(gradients, state, params)


def test_units_of_one_optimizer_without_clipping_share_its_state():
    parts = make_units(clip=0.0)
    assert not units.is_split(parts)
    assert jax.tree.structure(units.combine(parts).init(PARAMS)) == jax.tree.structure(parts[0].make().init(PARAMS))
    assert units.is_split(make_units())
    assert units.is_split(make_units({"name": "adam"}, clip=0.0))


def test_frozen_parameters_of_each_unit_are_stopped_and_not_counted():
    parts = make_units({"name": "sgd", "groups": {"kept": {"pattern": "wide/kernel", "frozen": True}}})
    assert units.count_learning(parts, PARAMS) == 3
    stop = units.freezing(parts)
    gradient = jax.grad(lambda params: sum(jnp.sum(x["kernel"]) for x in stop(params).values()))(PARAMS)
    assert [float(x["kernel"][0]) for x in gradient.values()] == [1.0, 1.0, 0.0]


def test_rates_of_their_own_have_a_name_in_the_log():
    assert [*units.learning_rates(make_units())] == ["rate"]
    rates = units.learning_rates(make_units({"name": "adam"}))
    assert {name: float(rate(0)) for name, rate in rates.items()} == pytest.approx({"rate": 0.1, "wide/rate": 0.01})
