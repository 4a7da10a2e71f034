"""What XLA is told of a program that it compiles for a CPU.

XLA hands matrix products, reductions and convolutions to a library of kernels (YNNPACK). In jax 0.10 the library's
convolutions, their gradients by the weights above all, are slower than XLA's own: a step of ResNet-32x4 -> ResNet-8x4
takes 1.2 times as long with them. In jax 0.12 they are not, and later versions keep XLA's choice
(`benchmarks/fusion.py`).

The library could have chains of elementwise operations too, and steps of convolutional networks would be faster by a
sixth again; but some it computes wrongly: `0.5 * (log1p(x) - log1p(-x))` of a large array, in jax 0.10 and 0.12.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

FUSION = "xla_cpu_experimental_ynn_fusion_type"
"""XLA's option: a list of what the library does."""

OURS = {FUSION: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def jit(function: Callable, **how: Any) -> Any:
    """`jax.jit`, with the options that make a program fast where it runs on a CPU."""
    return jax.jit(function, **how, compiler_options=of(jax.default_backend(), jax.__version_info__))


def of(backend: str, version: tuple[int, ...]) -> dict[str, str] | None:
    """The options for a backend and a version of JAX; none where XLA_FLAGS already say what the library does."""
    mine = backend == "cpu" and version < (0, 11) and FUSION not in os.environ.get("XLA_FLAGS", "")
    return OURS if mine and _known() else None


@functools.cache
def _known() -> bool:
    """Whether this XLA takes the options, which are experimental: some version of jaxlib may have others."""
    try:
        jax.jit(lambda: 0.0, compiler_options=OURS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
