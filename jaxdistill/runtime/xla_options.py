"""XLA compiler options by kind of device.

On a CPU, XLA hands matrix products, reductions and convolutions to a library of kernels (YNNPACK). In jax 0.10 the
library's convolutions, above all their gradients by the weights, are slower than XLA's own: a step of ResNet-32x4 ->
ResNet-8x4 takes 1.2 times as long with them. In jax 0.12 they are not, and later versions keep XLA's choice
(`benchmarks/studies/fusion.py`).

The library could also take chains of elementwise operations, and steps of convolutional networks would be faster by
another sixth. It computes some of them wrongly: `0.5 * (log1p(x) - log1p(-x))` of a large array, in jax 0.10 and 0.12.

On TPUs, XLA cuts a product with weights that are split over devices (`fsdp`) into as many products as devices, so that
each waits for a part of the weights alone. On 16 devices these are narrow, and every sum passes through memory 16
times. With whole products the weights of a layer are gathered while the layer before runs. Of the memory beside the
units XLA lets a fusion use 16 MiB, by default. With 32 of a v5e's 128 its tiles are larger, and fewer inputs are read
or computed again. What fusions may use holds no array between them, and models declare other options where these were
found better for them (`docs/tpu.md`).

For GPUs that are absent, XLA cannot time the tiles of products that Triton would compile, and finds none for some of
them; cuBLAS takes any.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxdistill.runtime import topology
from jaxdistill.runtime.onednn import program, setting

FUSION = "xla_cpu_experimental_ynn_fusion_type"
"""XLA's option: a list of the operations that the library computes."""

OPTIONS: dict[str, str | bool] = {FUSION: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}

WINDOWED = "xla_jf_spmd_threshold_for_windowed_einsum_mib"
"""libtpu's option: the size of operands from which on a product is cut."""

SCOPED = "xla_tpu_scoped_vmem_limit_kib"
"""libtpu's option: KiB of the memory beside the units that a fusion may use."""

V5E = "TPU v5 lite"
"""JAX's name of a TPU v5e."""

TPU_OPTIONS: dict[str, dict[str, str | bool]] = {
    "": {WINDOWED: "1000000"},
    V5E: {SCOPED: "32768"},
}
"""Options for all TPUs, and for those of a kind."""


@dataclasses.dataclass
class _Current:
    of_models: Mapping[str, str] = dataclasses.field(default_factory=dict)


_CURRENT = _Current()

ABSENT_GPU_OPTIONS: dict[str, str | bool] = {"xla_gpu_enable_triton_gemm": False}


def use(of_models: Mapping[str, str]) -> None:
    """Sets the options that models declare for a TPU v5e; they hold for the programs that `jit` makes afterwards."""
    _CURRENT.of_models = of_models


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Applies `jax.jit`, with the compiler options and the convolutions that make a program fast on a CPU."""
    backend, library = topology.backend(), setting.current()
    if backend == "cpu" and library is not None:
        function = program.use_onednn(function, library)
    chosen = select_options(backend, jax.__version_info__)
    return jax.jit(function, **options, compiler_options=chosen)


def select_options(backend: str, version: tuple[int, ...]) -> dict[str, str | bool] | None:
    """Returns the options for a backend and a version of JAX; None if the compiler's flags have the same option."""
    if backend == "tpu":
        flags = os.environ.get("LIBTPU_INIT_ARGS", "")
        kind = topology.devices()[0].device_kind
        options = TPU_OPTIONS[""] | TPU_OPTIONS.get(kind, {}) | (dict(_CURRENT.of_models) if kind == V5E else {})
        return {name: value for name, value in options.items() if name not in flags}
    if backend == "gpu":
        return ABSENT_GPU_OPTIONS if topology.are_devices_absent() else None
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
