"""Rows of timings, and the arguments of the scripts that time.

A script gives `jaxdistill.runtime.timing.time_interleaved` some calls, makes rows of its seconds with `compare`, and
prints and keeps these with `results.write`. Each script takes `--rounds N` and `--write FILE.json`.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def compare(
    seconds: Mapping[str, Sequence[float]],
    reference: str,
    examples: float,
    flops: float = 0.0,
    peak: float = 0.0,
    unit: str = "images",
) -> list[dict[str, Any]]:
    """Makes a row of each call: its median, and its speed as a multiple of the reference's.

    Args:
        seconds: of `time_interleaved`.
        reference: the call that the others are compared with.
        examples: the number of examples in a call.
        flops: of the model that a call computes, the same count for all, however each computes it.
        peak: FLOP/s that matrix products reach here (`measure_peak`).
        unit: the name of an example, in the plural.

    Returns:
        A row has `ratio`, the median over rounds of the reference's time over its own in the same round, and
        `ratio_low` and `ratio_high`, its quartiles.
    """
    rows = []
    for name, taken in seconds.items():
        median = statistics.median(taken)
        ratios = sorted(left / right for left, right in zip(seconds[reference], taken, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        row = {"name": name, "ms": 1e3 * median, f"{unit}/s": examples / median, "ratio": middle}
        row |= {"ratio_low": low, "ratio_high": high}
        if flops:
            row |= {"GFLOP/s": flops / median / 1e9}
        if flops and peak:
            row |= {"of peak": flops / median / peak}
        rows.append(row)
    return rows


def measure_peak(product: Callable[[int], Callable[[], Any]] | None = None, seconds: float = 2.0) -> float:
    """Measures the FLOP/s of a product of two square matrices, the best of sizes 2048 and 4096 (8192 on a GPU).

    It is the best, since other processes on the machine can only make it slower.

    Args:
        product: `size -> call` that multiplies and waits; JAX's in float32 if None.
        seconds: for each size.
    """
    product, best = product or make_product(), 0.0
    for size in (2048, 4096) if _is_cpu() else (4096, 8192):
        call, until = product(size), time.perf_counter() + seconds
        call()
        while time.perf_counter() < until:
            began = time.perf_counter()
            call()
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def make_product(dtype: str = "float32") -> Callable[[int], Callable[[], Any]]:
    """Returns `size -> call` for JAX at its default precision: TF32 on NVIDIA's matrix units."""
    import jax
    import jax.numpy as jnp

    def product(size: int) -> Callable[[], Any]:
        a, b = (jax.random.normal(jax.random.key(seed), (size, size)).astype(jnp.dtype(dtype)) for seed in (0, 1))
        multiply = jax.jit(jnp.matmul)
        return lambda: multiply(a, b).block_until_ready()

    return product


def _is_cpu() -> bool:
    import jax

    return jax.default_backend() == "cpu"


def make_parser(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """Makes a parser with the arguments that every script takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="the number of times each is timed")
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    return parser
