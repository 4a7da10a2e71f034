"""Units of a traced network are removed; what is left computes what the network with these units masked does."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import structured
from jaxdistill.compress import structure, unit_groups
from jaxdistill.compress.structure import Structure
from jaxdistill.compress.view import Model
from jaxdistill.compress.views import Views, unflatten
from jaxdistill.errors import UserError
from jaxdistill.models import mlp

FAST = ("mlp", "decoder, llama")
FAMILIES = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
    for name in structured.NETWORKS
    if name not in structured.NOT_REMOVABLE
]


def mlp_model(widths=(8, 6), side=2):
    module, x = mlp.MLP(3, widths), jnp.ones((2, side, side, 1))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    random = np.random.default_rng(0)
    variables = {
        f"params/{layer}/{name}": random.normal(size=leaf.shape).astype(np.float32)
        for layer, arrays in shapes["params"].items()
        for name, leaf in arrays.items()
    }
    return Model(lambda variables, batch: module.apply(variables, batch["x"]).logits, {"x": x}), variables


@pytest.mark.parametrize("name", FAMILIES)
def test_removal_equals_masking(name):
    model, variables = structured.draw(name)
    view = Structure(keep=0.5)
    units, groups, kept = view.plan(variables, model)
    assert groups
    random = np.random.default_rng(2)
    indices = {g: np.sort(random.permutation(groups[g].size)[:count]) for g, count in kept.items()}
    assert all(len(index) < groups[name].size for name, index in indices.items())
    small = unit_groups.take(variables, units, indices)
    masked = unit_groups.mask(variables, units, indices)
    expected = structured.call(model, masked, model.batch)
    np.testing.assert_allclose(structured.call(model, small, model.batch), expected, rtol=1e-5, atol=1e-5)
    assert jnp.max(jnp.abs(expected - structured.call(model, variables, model.batch))) > 1e-3
    # The plan has the shapes, parameters and FLOPs of the arrays.
    assert {n: x.shape for n, x in small.items()} == {n: units.shape(n, x.shape, kept) for n, x in variables.items()}
    counts = structure.costs(units, variables, kept)
    assert counts["parameters"] == sum(x.size for n, x in small.items() if n.startswith("params/"))
    assert counts["flops"] < structure.costs(units, variables, {})["flops"]


@pytest.mark.parametrize("name", structured.NOT_REMOVABLE)
def test_families_without_units_are_refused(name):
    model, variables = structured.draw(name)
    with pytest.raises(UserError, match=f"match must match .*{structured.NOT_REMOVABLE[name]}"):
        Structure().resize(variables, model)


def test_the_largest_units_stay_in_their_order():
    model, variables = mlp_model(widths=(3, 2))
    kernel = np.zeros((4, 3), np.float32)
    kernel[0] = 3, 1, 2
    variables |= {"params/dense1/kernel": kernel, "params/dense2/kernel": np.zeros((3, 2), np.float32)}
    small = Structure(match="dense1", keep=0.67).resize(variables, model)
    np.testing.assert_array_equal(small["params/dense1/kernel"][0], [3, 2])
    np.testing.assert_array_equal(small["params/dense1/bias"], variables["params/dense1/bias"][[0, 2]])
    assert small["params/dense2/kernel"].shape == (2, 2)
    assert small["params/head/kernel"].shape == (2, 3)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (dict(keep=0.5), (4, 3)),
        (dict(keep=0.01), (1, 1)),
        (dict(keep=0.01, least=5), (5, 5)),
        (dict(keep=0.3, multiple_of=4), (4, 4)),
        (dict(keep=0.9, multiple_of=4), (8, 4)),
        (dict(keep=1.0), (8, 6)),
    ],
)
def test_numbers_of_units_by_hand(fields, kept):
    model, variables = mlp_model()
    assert tuple(Structure(**fields).plan(variables, model)[2].values()) == kept


@pytest.mark.parametrize("cost", structure.COSTS)
def test_a_target_is_met_by_the_largest_network_that_meets_it(cost):
    model, variables = mlp_model(widths=(40, 40), side=4)
    units, _, kept = Structure(target={cost: 0.5}).plan(variables, model)
    dense = structure.costs(units, variables, {})
    assert 0.45 < structure.costs(units, variables, kept)[cost] / dense[cost] <= 0.5
    more = {name: count + 1 for name, count in kept.items()}
    assert structure.costs(units, variables, more)[cost] / dense[cost] > 0.5


def test_flops_are_those_of_the_program():
    model, variables = mlp_model()
    units, _, kept = Structure().plan(variables, model)
    # Two examples, two operations for each weight of 4 -> 4 -> 3 -> 3.
    assert units.flops(kept) == 2 * 2 * (4 * 4 + 4 * 3 + 3 * 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(match="conv"), "match must match an array of a group of units, got 'conv'"),
        (dict(match="("), "match must be a regular expression"),
        (dict(keep=0.0), r"keep must be in \(0, 1\], got 0.0"),
        (dict(keep=1.5), r"keep must be in \(0, 1\], got 1.5"),
        (dict(least=9), "keep must remove a unit, got 0.5 with least=9"),
        (dict(target={"params": 0.5}), "target must be .*got 'params'"),
        (dict(target={"flops": 0.0}), r"target.flops must be in \(0, 1\], got 0.0"),
        (dict(target={"parameters": 0.01}), "target.parameters must be at least 0.1"),
    ],
)
def test_mistakes(fields, message):
    model, variables = mlp_model()
    views = Views.of({"half": Structure(**fields)})
    with pytest.raises(UserError, match=f"compress.half.{message}"):
        views.start(unflatten(variables), model=model)


def test_a_module_that_takes_another_branch_for_fewer_units_is_refused():
    class Turns(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(4, name="first")(x)
            return nn.Dense(3, name="head")(jnp.tanh(x) if x.shape[-1] == 4 else nn.relu(x))

    model = Model(lambda variables, batch: Turns().apply(variables, batch["x"]), {"x": jnp.ones((2, 5))})
    shapes = jax.eval_shape(Turns().init, jax.random.key(0), jnp.ones((2, 5)))["params"]
    variables = {f"params/{layer}/{name}": x for layer, arrays in shapes.items() for name, x in arrays.items()}
    with pytest.raises(UserError, match="keep must leave a model that computes the same .* it takes another"):
        Structure().plan(variables, model)
