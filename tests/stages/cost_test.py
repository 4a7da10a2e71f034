"""Cost of the networks of a stage: numbers by hand."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import pytest

import runs
from jaxdistill.compress.binary import Binary
from jaxdistill.compress.codebook import Codebook
from jaxdistill.compress.lora import LoRA
from jaxdistill.compress.quantize import Quantize
from jaxdistill.compress.sparse import Sparse
from jaxdistill.compress.views import Views
from jaxdistill.networks import Frozen
from jaxdistill.pipeline import run
from jaxdistill.stages import cost

PARAMETERS = 64 * 8 + 8 + 8 * 10 + 10


@pytest.fixture(scope="module")
def stage():
    stage = run.prepare(runs.parsed(), None)["evaluate"]
    return runs.with_evaluate(stage, networks=("student",), pairs=(), metrics=("accuracy",))


def weights_of(stage):
    return {name: jax.tree.map(lambda x: jnp.ones(x.shape), x) for name, x in stage.shapes.variables.items()}


def test_the_parameters_that_are_not_zero_are_counted_and_bytes_are_those_of_all(stage):
    weights = weights_of(stage)
    weights["student"]["params"]["dense1"]["kernel"] = jnp.zeros((64, 8)).at[3, 4].set(2.0)
    costs = cost.measure(stage.runs, weights)["student"]
    assert costs == {
        "parameters": PARAMETERS,
        "nonzero": PARAMETERS - 64 * 8 + 1,
        "bytes": 4 * PARAMETERS,
        "flops": 2 * (64 * 8 + 8 * 10),
    }
    assert cost.count(stage, "student") == (costs["parameters"], costs["flops"])


def test_arrays_that_folding_has_merged_count(stage):
    weights = weights_of(stage)
    weights["student"]["params"]["dense1"] = {"kernel": jnp.ones((64, 8)), "shift": jnp.ones(8)}
    assert cost.measure(stage.runs, weights)["student"]["nonzero"] == PARAMETERS


def test_a_network_in_int8_has_a_byte_for_each_weight_and_a_scale_for_each_channel(stage):
    source = stage.networks["student"]
    assert isinstance(source, Frozen)
    reduced = dataclasses.replace(
        stage, networks={**stage.networks, "student": dataclasses.replace(source, quantize="int8")}
    )
    weights = reduced.runs.for_inference(weights_of(reduced))
    costs = cost.measure(reduced.runs, weights)["student"]
    assert costs["parameters"] == costs["nonzero"] == PARAMETERS  # the scales are no parameters
    assert costs["bytes"] == 64 * 8 + 4 * 8 + 4 * (8 + 8 * 10 + 10)  # the head stays exact


def test_speed_is_measured_only_if_it_is_set(stage, monkeypatch):
    monkeypatch.setattr(cost.cost, "LATENCY_ROUNDS", 2)
    monkeypatch.setattr(cost.cost, "THROUGHPUT_ROUNDS", 1)
    timed = runs.with_evaluate(stage, cost=True)
    costs = cost.measure(timed.runs, weights_of(timed))["student"]
    assert {"memory", "latency_ms", "throughput"} <= costs.keys()
    assert costs["latency_ms"] > 0 < costs["throughput"]
    conditions = cost.describe_conditions(timed)["cost"]
    assert (conditions["latency_batch"], conditions["throughput_batch"], conditions["latency_rounds"]) == (1, 64, 2)
    assert cost.describe_conditions(stage) == {}


def with_views(stage, **views):
    """Returns a stage whose student has views, and its weights: the numbers from 1 in each array."""
    source = dataclasses.replace(stage.networks["student"], views=Views.of(views))
    viewed = dataclasses.replace(stage, networks={**stage.networks, "student": source})
    weights = weights_of(stage)
    student = jax.tree.map(lambda x: 1 + jnp.arange(x.size, dtype=jnp.float32).reshape(x.shape), weights["student"])
    return viewed, weights | {"student": source.start(student, fresh=True)}


def test_of_sparse_weights_the_values_and_a_mask_are_stored(stage):
    pruned, weights = with_views(stage, prune=Sparse(sparsity=0.75))
    costs = cost.measure(pruned.runs, weights)["student"]
    assert costs["parameters"] == PARAMETERS
    assert costs["nonzero"] == PARAMETERS - 64 * 8 * 3 // 4
    assert costs["bytes"] == 4 * 64 * 8 // 4 + 64 * 8 // 8 + 4 * (8 + 8 * 10 + 10)


KERNEL = 64 * 8
OTHERS = 4 * (8 + 8 * 10 + 10)
"""Bytes of the biases and of the head, which views leave as they are."""


@pytest.mark.parametrize(
    ("views", "stored"),
    [
        (dict(a=Quantize(bits=8)), KERNEL + 4 * 8),
        (dict(a=Quantize(bits=4)), KERNEL // 2 + 4 * 8),
        (dict(a=Quantize(bits=4, per="tensor", symmetric=False)), KERNEL // 2 + 4 + 1),
        (dict(a=Quantize(bits=4, match="dense1/kernel", range="learned")), KERNEL // 2 + 4 * 8),
        (dict(a=Codebook(size=16, iterations=1)), KERNEL // 2 + 4 * 16),
        (dict(a=Binary()), KERNEL // 8 + 4 * 8),
        (dict(a=Quantize(bits=4), b=Sparse(n=2, m=4)), KERNEL // 4 + KERNEL // 8 + 4 * 8),
        (dict(a=Quantize(bits=8), b=Codebook(size=5, iterations=1)), KERNEL * 3 // 8 + 4 * 5 + 4 * 8),
    ],
)
def test_bytes_are_bits_with_scales_values_and_masks(stage, views, stored):
    viewed, weights = with_views(stage, **views)
    views = viewed.networks["student"].views
    assert views.stored_bytes(weights["student"]) == stored + OTHERS


def test_products_of_adapters_are_no_flops_of_the_inference(stage):
    source = stage.networks["student"]
    adapted = dataclasses.replace(source, views=Views.of({"adapt": LoRA(rank=2)}))
    networks = {**stage.networks, "student": adapted}
    shapes = jax.eval_shape(lambda x: adapted.start(x, True), stage.shapes.variables["student"])
    variables = {**stage.shapes.variables, "student": shapes}
    assert "adapt" in shapes["params"]["compress"]
    changed = dataclasses.replace(stage, networks=networks)
    vars(changed)["shapes"] = types.SimpleNamespace(variables=variables)
    assert cost.count(changed, "student") == (PARAMETERS, 2 * (64 * 8 + 8 * 10))


def test_networks_are_timed_with_their_final_params(stage):
    pruned, weights = with_views(stage, prune=Sparse(sparsity=0.75))
    networks, variables = cost._finish(pruned.networks, weights)
    image = {"image": jnp.linspace(0, 1, 2 * 64).reshape(2, 8, 8, 1)}
    before, after = (
        source(tree, image, {}, None)[0].logits
        for source, tree in (
            (pruned.networks["student"], weights["student"]),
            (networks["student"], variables["student"]),
        )
    )
    assert jnp.array_equal(before, after)
    kernel = variables["student"]["params"]["dense1"]["kernel"]
    assert networks["student"].views.viewed(variables["student"])["params"]["dense1"]["kernel"] is kernel
    assert jnp.sum(kernel == 0) == 64 * 8 * 3 // 4
    assert networks["teacher"] is pruned.networks["teacher"]
