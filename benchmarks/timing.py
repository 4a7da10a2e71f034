"""How the scripts beside this one measure: what is compared takes turns, so that a busy machine is busy for all.

A script gives `interleaved` some calls, makes rows of what it returns with `compared`, prints them with `table` and
keeps them with `write`. Each takes `--rounds N` and `--write FILE.json`.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "torchdistill", "transformers", "trl")


def interleaved(calls: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Times every call once a round and returns the seconds of each, `{name: [rounds]}`.

    Each round begins with another call than the last, so that none always follows the same one. What a call starts
    it must wait for: `jax.block_until_ready`, `torch.cuda.synchronize`.
    """
    names = list(calls)
    for name in names * warm_up:
        calls[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % max(len(names), 1)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def compared(
    seconds: Mapping[str, Sequence[float]],
    reference: str,
    examples: float,
    flops: float = 0.0,
    peak: float = 0.0,
    unit: str = "images",
) -> list[dict[str, Any]]:
    """Makes a row of each call: its median, and how many times as fast as the reference it is.

    Args:
        reference: the call that the others are compared with.
        examples: that a call goes through.
        flops: of the model that a call computes, the same count for all, however each computes it.
        peak: FLOP/s that matrix products reach here (`peak`).
        unit: what examples are called.

    Returns:
        A row has `ratio`, the median over rounds of reference over own time of the same round, and `from` and `to`,
        its quartiles.
    """
    rows = []
    for name, own in seconds.items():
        median = statistics.median(own)
        ratios = sorted(theirs / mine for theirs, mine in zip(seconds[reference], own, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        row = {"what": name, "ms": 1e3 * median, f"{unit}/s": examples / median, "ratio": middle}
        row |= {"from": low, "to": high}
        if flops:
            row |= {"GFLOP/s": flops / median / 1e9}
        if flops and peak:
            row |= {"of peak": flops / median / peak}
        rows.append(row)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes rows as Markdown, a column each key but `from` and `to`, which stand beside the ratio; absent is "-"."""
    columns = [c for c in dict.fromkeys(key for row in rows for key in row) if c not in ("from", "to")]
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' if c == columns[0] else '---:' for c in columns)} |"]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(column, row) for column in columns)} |" for row in rows)])


def _cell(column: str, row: Mapping[str, Any]) -> str:
    value = row.get(column)
    if value is None:
        return "-"
    if column == "ratio":
        return f"{value:.2f} ({row['from']:.2f}-{row['to']:.2f})" if "from" in row else f"{value:.2f}"
    if column == "of peak":
        return f"{value:.1%}"
    if not isinstance(value, float):
        return str(value).replace("|", "\\|")
    return f"{value:,.{max(0, 2 - int(math.log10(max(abs(value), 1))))}f}"


def peak(product: Callable[[int], Callable[[], Any]] | None = None, seconds: float = 2.0) -> float:
    """Measures the FLOP/s of a product of two square matrices, the best of sizes 2048 and 4096 (8192 on a GPU).

    The best, and not the median: what else runs on the machine can only take from it.

    Args:
        product: `size -> call` that multiplies and waits; JAX's in float32 where there is none.
        seconds: for each size.
    """
    product, best = product or jax_product(), 0.0
    for size in (2048, 4096) if _is_cpu() else (4096, 8192):
        call, until = product(size), time.perf_counter() + seconds
        call()
        while time.perf_counter() < until:
            began = time.perf_counter()
            call()
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def jax_product(dtype: str = "float32") -> Callable[[int], Callable[[], Any]]:
    """Returns `size -> call` for JAX, at the precision that it takes by itself: on NVIDIA's matrix units TF32."""
    import jax
    import jax.numpy as jnp

    def product(size):
        a, b = (jax.random.normal(jax.random.key(seed), (size, size)).astype(jnp.dtype(dtype)) for seed in (0, 1))
        multiply = jax.jit(jnp.matmul)
        return lambda: multiply(a, b).block_until_ready()

    return product


def _is_cpu() -> bool:
    import jax

    return jax.default_backend() == "cpu"


def conditions() -> dict[str, Any]:
    """Tells what was measured on: device, driver, cores, load, versions, date and commit."""
    import jax

    found: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")}
    found |= {"commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty")}
    found |= {"device": f"{jax.device_count()} x {jax.devices()[0].device_kind}", "processor": _processor()}
    found |= {"cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 1)}
    driver = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    found |= {"driver": driver} if driver else {}
    found |= {"python": platform.python_version()} | {name: version for name in PACKAGES if (version := _version(name))}
    set_here = {name: os.environ[name] for name in ("GLIBC_TUNABLES", "XLA_FLAGS") if os.environ.get(name)}
    return found | set_here


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _said(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _processor() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def parser(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """The arguments that every script takes."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="how often each is timed")
    made.add_argument("--write", type=pathlib.Path, help="a .json for the numbers and their conditions")
    return made


def write(path: pathlib.Path | None, tables: Mapping[str, Sequence[Mapping[str, Any]]], **about: Any) -> None:
    """Writes `{"conditions", "tables": {title: rows}, **about}` where a path is given; prints the tables anyway."""
    under = conditions()
    for title, rows in tables.items():
        print(f"\n{title}\n\n{table(rows)}", flush=True)
    told = "".join(f"; {name} {value}" for name, value in about.items() if isinstance(value, str | int | float))
    print(f"\n{'; '.join(f'{name} {value}' for name, value in under.items())}{told}", flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"conditions": under, **about, "tables": tables}, indent=1) + "\n")
