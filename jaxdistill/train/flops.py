"""FLOPs of a program, and the peak FLOP/s of devices.

Multiplications and additions of matrix products and convolutions count, two for each pair, as in papers. Padding
counts, recomputation to save memory counts each time, and a kernel of Pallas counts all blocks of its grid. Everything
else (norms, activations, the optimizer) does not count, nor do results that nothing reads, such as the output of an
average of weights in training.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
from jax.extend import core as jaxpr_core
from jax.interpreters import partial_eval

from jaxdistill.errors import check_least
from jaxdistill.runtime.onednn import operation

# Dense (no sparsity) FLOP/s of one JAX device for operands of each type, as XLA multiplies them by default: float32 in
# TF32 on NVIDIA's Ampere and later, in bfloat16 on TPUs. From the makers' data sheets: nvidia.com/en-us/data-center/
# {v100,tesla-t4,a100,l4,h100,h200,dgx-b200}, cloud.google.com/tpu/docs/{v2,v3,v4,v5e,v5p,v6e,tpu7x}; a chip of v2, v3
# or 7x is two devices.
_PEAKS: dict[str, dict[str, float]] = {
    "V100": {"float32": 15.7e12, "float16": 125e12},
    "T4": {"float32": 8.1e12, "float16": 65e12, "int8": 130e12},
    "A100": {"float32": 156e12, "float16": 312e12, "bfloat16": 312e12, "int8": 624e12},
    "L4": {"float32": 60e12, "float16": 121e12, "bfloat16": 121e12, "int8": 242e12},
    "H100 PCIe": {"float32": 378e12, "float16": 756e12, "bfloat16": 756e12, "int8": 1513e12},
    "H100 NVL": {"float32": 417.5e12, "float16": 835.5e12, "bfloat16": 835.5e12, "int8": 1670.5e12},
    "H100": {"float32": 494.7e12, "float16": 989.4e12, "bfloat16": 989.4e12, "int8": 1978.9e12},
    "H200": {"float32": 494.7e12, "float16": 989.4e12, "bfloat16": 989.4e12, "int8": 1978.9e12},
    "B200": {"float32": 1125e12, "float16": 2250e12, "bfloat16": 2250e12, "int8": 4500e12},
    "TPU v2": {"float32": 22.5e12, "bfloat16": 22.5e12},
    "TPU v3": {"float32": 61.5e12, "bfloat16": 61.5e12},
    "TPU v4": {"float32": 275e12, "bfloat16": 275e12, "int8": 275e12},
    "TPU v5 lite": {"float32": 197e12, "bfloat16": 197e12, "int8": 394e12},
    "TPU v5e": {"float32": 197e12, "bfloat16": 197e12, "int8": 394e12},
    "TPU v5p": {"float32": 459e12, "bfloat16": 459e12, "int8": 918e12},
    "TPU v5": {"float32": 459e12, "bfloat16": 459e12, "int8": 918e12},
    "TPU v6 lite": {"float32": 918e12, "bfloat16": 918e12, "int8": 1836e12},
    "TPU v6e": {"float32": 918e12, "bfloat16": 918e12, "int8": 1836e12},
    "TPU7x": {"float32": 1153.5e12, "bfloat16": 1153.5e12},
}


def peaks(device_kind: str) -> Mapping[str, float]:
    """Returns the peak FLOP/s of a device by type of operand; empty for a device without a data sheet here."""
    words = device_kind.replace("-", " ").split()
    matches = {name: rates for name, rates in _PEAKS.items() if _is_in(name.split(), words)}
    return matches[max(matches, key=len)] if matches else {}


def _is_in(name: list[str], words: list[str]) -> bool:
    return any(words[start : start + len(name)] == name for start in range(len(words)))


def least_seconds(counted: Mapping[str, float], device_kind: str, peak: float = 0.0) -> float | None:
    """Returns the seconds in which one device could do these FLOPs at its peak; `None` without a peak.

    Args:
        counted: FLOPs by type of operand.
        device_kind: JAX's name of the device.
        peak: the peak FLOP/s of a device, of any type; 0 for that of its data sheet.
    """
    check_least("peak_flops", peak, 0)
    if peak:
        return sum(counted.values()) / peak
    rates = peaks(device_kind)
    return sum(n / rates[kind] for kind, n in counted.items()) if rates.keys() >= counted.keys() else None


def count(function: Any, *arguments: Any) -> dict[str, int]:
    """Counts the FLOPs of a call, by type of operand: `{"float32": 1234}`; from shapes alone."""
    traced = function if hasattr(function, "trace") else jax.jit(function)
    counted: Counter[str] = Counter()
    program = traced.trace(*arguments).jaxpr.jaxpr
    needed, _ = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    for kind, number in _of(needed):
        counted[kind] += number
    return dict(counted)


def _of(jaxpr: Any) -> Iterator[tuple[str, int]]:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            yield _kind(equation), _of_product(equation, contracted)
        elif name == "weights_product":  # in forward mode
            yield _kind(equation), _of_product(equation, equation.params["contracted"])
        elif name == "conv_general_dilated":
            yield _kind(equation), _of_convolution(equation)
        elif name == "ffi_call" and equation.params["target_name"].startswith(operation.TARGET):
            yield (
                _kind(equation),
                operation.count_flops(equation.params),
            )
        elif name == "cond":
            branches = [[*_of(branch.jaxpr)] for branch in equation.params["branches"]]
            yield from max(branches, key=lambda counts: sum(number for _, number in counts))
        else:
            times = _count_runs(equation)
            for inner in _inside(equation):
                yield from ((kind, times * number) for kind, number in _of(inner))


def _count_runs(equation: Any) -> int:
    """Returns how often an equation runs the programs in it."""
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        return params["length"]
    if name == "pallas_call":
        return math.prod(params["grid_mapping"].grid)
    if name == "shard_map":
        return params["mesh"].size  # the program is that of one device
    return 1


def _inside(equation: Any) -> Iterator[Any]:
    """Yields the programs that an equation runs; of a custom derivative only the function itself."""
    for value in equation.params.values():
        if isinstance(value, jaxpr_core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, jaxpr_core.Jaxpr):
            yield value


def _kind(equation: Any) -> str:
    return str(equation.invars[0].aval.dtype)


def _of_product(equation: Any, contracted: Iterable[int]) -> int:
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _of_convolution(equation: Any) -> int:
    kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec
    per_output = math.prod(kernel[axis] for axis in numbers[1:])  # the inputs of its group, times the window
    # The zeros between the inputs of a transposed convolution are not multiplied.
    return 2 * math.prod(equation.outvars[0].aval.shape) * per_output // math.prod(equation.params["lhs_dilation"])
