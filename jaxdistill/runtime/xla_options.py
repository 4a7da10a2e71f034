"""XLA compiler options for CPU programs.

XLA hands matrix products, reductions and convolutions to a library of kernels (YNNPACK). In jax 0.10 the library's
convolutions, above all their gradients by the weights, are slower than XLA's own: a step of ResNet-32x4 -> ResNet-8x4
takes 1.2 times as long with them. In jax 0.12 they are not, and later versions keep XLA's choice
(`benchmarks/studies/fusion.py`). This module is needed only while jax 0.10 is supported.

The library could also take chains of elementwise operations, and steps of convolutional networks would be faster by
another sixth. It computes some of them wrongly: `0.5 * (log1p(x) - log1p(-x))` of a large array, in jax 0.10 and 0.12.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

from jaxdistill.runtime import topology
from jaxdistill.runtime.onednn import program, setting

FUSION = "xla_cpu_experimental_ynn_fusion_type"
"""XLA's option: a list of the operations that the library computes."""

OPTIONS = {FUSION: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Applies `jax.jit`, with the compiler options and the convolutions that make a program fast on a CPU."""
    backend, library = topology.backend(), setting.current()
    if backend == "cpu" and library is not None:
        function = program.use_onednn(function, library)
    chosen = select_options(backend, jax.__version_info__)
    return jax.jit(function, **options, compiler_options=chosen)


def select_options(backend: str, version: tuple[int, ...]) -> dict[str, str] | None:
    """Returns the options for a backend and a version of JAX; None if XLA_FLAGS has the same option."""
    needed = backend == "cpu" and version < (0, 11) and FUSION not in os.environ.get("XLA_FLAGS", "")
    return OPTIONS if needed and _are_supported() else None


@functools.cache
def _are_supported() -> bool:
    """Whether this XLA takes the options, which are experimental: another jaxlib may have others."""
    try:
        jax.jit(lambda: 0.0, compiler_options=OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
