"""Cost of inference: FLOPs by hand, and the numbers of networks that take turns."""

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Frozen
from jaxdistill.train import cost

BATCH = {"image": jax.ShapeDtypeStruct((7, 4, 4, 1), jnp.float32)}


@pytest.fixture(scope="module")
def networks():
    modules = {"small": MLP(10, widths=(3,)), "large": MLP(10, widths=(5, 3))}
    shapes = {name: jax.eval_shape(x.init, jax.random.key(0), jnp.ones((1, 4, 4, 1))) for name, x in modules.items()}
    variables = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
    return {name: Frozen(module) for name, module in modules.items()}, variables


def test_flops_are_those_of_one_example(networks):
    sources, variables = networks
    assert cost.count_flops(sources, "small", variables, BATCH) == 2 * (16 * 3 + 3 * 10)
    assert cost.count_flops(sources, "large", variables, BATCH) == 2 * (16 * 5 + 5 * 3 + 3 * 10)


def test_networks_are_timed_in_turns(networks, monkeypatch):
    rounds = []

    def time_interleaved(calls, number):
        logits = {name: call() for name, call in calls.items()}
        rounds.append(({name: x.shape for name, x in logits.items()}, number))
        return {"small": [0.5, 0.25, 9.0], "large": [1.0, 2.0, 4.0]}

    monkeypatch.setattr(cost, "time_interleaved", time_interleaved)
    costs = cost.measure_speed(*networks, names=["small", "large"], batch=BATCH)
    assert rounds == [
        (dict.fromkeys(("small", "large"), (1, 10)), cost.LATENCY_ROUNDS),
        (dict.fromkeys(("small", "large"), (64, 10)), cost.THROUGHPUT_ROUNDS),
    ]
    assert {name: row["latency_ms"] for name, row in costs.items()} == {"small": 500.0, "large": 2000.0}
    assert {name: row["throughput"] for name, row in costs.items()} == {"small": 128.0, "large": 32.0}
    assert all(isinstance(row["memory"], int) for row in costs.values())
