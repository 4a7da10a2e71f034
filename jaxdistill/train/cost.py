"""Cost of a network's inference: FLOPs, memory of activations, latency and throughput."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Batch, Variables
from jaxdistill.networks import Source, dependencies, run
from jaxdistill.runtime import xla_options
from jaxdistill.runtime.timing import time_interleaved
from jaxdistill.train import flops

LATENCY_BATCH, THROUGHPUT_BATCH = 1, 64
"""Examples of a call whose time is the latency, and of one whose rate is the throughput."""

LATENCY_ROUNDS, THROUGHPUT_ROUNDS = 30, 10
"""The number of times that each network is timed."""

Shapes = Mapping[str, jax.ShapeDtypeStruct]
"""Shapes of a batch of any size."""

Weights = Mapping[str, Variables]
"""Variables, or shapes, by network."""


def count_flops(networks: Mapping[str, Source], name: str, variables: Weights, batch: Shapes) -> int:
    """Counts the FLOPs of a network on one example, with those of its dependencies, from shapes alone.

    They are those of matrix products and convolutions, two for a multiplication and an addition (`train.flops`).
    """
    predict, needed = _make_predict(networks, name, variables)
    return sum(flops.count(predict, needed, _resize(batch, 1)).values())


def measure_speed(
    networks: Mapping[str, Source], variables: Weights, *, names: Sequence[str], batch: Shapes
) -> dict[str, dict[str, float | None]]:
    """Measures networks in turns on the first device of this process.

    Args:
        networks: all of them, by name.
        variables: of every network that has any, as networks are called with, on the host or that device.
        names: the networks to be measured.
        batch: shapes of a batch; its examples are all ones.

    Returns:
        By network `memory`, the bytes of temporary buffers of one example as compiled (None if the backend does not
        report it), `latency_ms`, and `throughput` in examples a second: medians over rounds.
    """
    device = jax.local_devices()[0]
    variables = jax.device_put(variables, device)
    latency, memory = _make_calls(networks, names, variables, _make_batch(batch, LATENCY_BATCH, device))
    latencies = time_interleaved(latency, LATENCY_ROUNDS)
    throughput, _ = _make_calls(networks, names, variables, _make_batch(batch, THROUGHPUT_BATCH, device))
    durations = time_interleaved(throughput, THROUGHPUT_ROUNDS)
    return {
        name: {
            "memory": memory[name],
            "latency_ms": 1e3 * statistics.median(latencies[name]),
            "throughput": THROUGHPUT_BATCH / statistics.median(durations[name]),
        }
        for name in names
    }


def describe_conditions() -> dict[str, Any]:
    """Returns the conditions of `measure_speed`."""
    return {
        "device": jax.local_devices()[0].device_kind,
        "latency_batch": LATENCY_BATCH,
        "latency_rounds": LATENCY_ROUNDS,
        "throughput_batch": THROUGHPUT_BATCH,
        "throughput_rounds": THROUGHPUT_ROUNDS,
    }


def _make_calls(
    networks: Mapping[str, Source], names: Sequence[str], variables: Weights, batch: Batch
) -> tuple[dict[str, Callable[[], Any]], dict[str, int | None]]:
    """Returns by network a call that waits for its logits, and the bytes of its temporary buffers."""
    calls, memory = {}, {}
    for name in names:
        predict, needed = _make_predict(networks, name, variables)
        compiled = xla_options.jit(predict).lower(needed, batch).compile()
        analysis = compiled.memory_analysis()
        memory[name] = int(analysis.temp_size_in_bytes) if analysis else None
        calls[name] = lambda compiled=compiled, needed=needed: jax.block_until_ready(compiled(needed, batch))
    return calls, memory


def _make_predict(
    networks: Mapping[str, Source], name: str, variables: Weights
) -> tuple[Callable[[Weights, Batch], jax.Array | core.TopK], Weights]:
    """Returns `(variables, batch) -> logits` of a network, and the variables that it needs."""
    running = dependencies(networks, [name])

    def predict(variables: Weights, batch: Batch) -> jax.Array | core.TopK:
        return core.comparable(run(running, variables, batch, None)[0][name].logits)

    return predict, {key: x for key, x in variables.items() if key in running}


def _resize(batch: Shapes, examples: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {key: jax.ShapeDtypeStruct((examples, *x.shape[1:]), x.dtype) for key, x in batch.items()}


def _make_batch(batch: Shapes, examples: int, device: Any) -> Batch:
    arrays = {key: jnp.ones(x.shape, x.dtype) for key, x in _resize(batch, examples).items()}
    return jax.device_put(arrays, device)
