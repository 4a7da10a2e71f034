"""Accelerators that programs are compiled for, on machines without them.

JAX compiles a program for the topology of a TPU slice, or of GPUs, with the compiler of its maker alone: libtpu, or the
plugins of CUDA (`jax.experimental.topologies`). Such devices have no arrays, and nothing runs on them.
"""

import contextlib
import contextvars
import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from jaxdistill.errors import UserError, unknown

EXAMPLES = (
    *("v2:2x2", "v3:4x4", "v4:2x2x1", "v4:4x4x4", "v5e:1x1", "v5e:2x2", "v5e:4x4", "v5e:16x16", "v5p:2x2x1"),
    *("v5p:4x4x4", "v5p:16x20x28", "v6e:2x2", "v6e:16x16", "tpu7x:2x2x1", "a100:8", "h100:1", "h100:8", "h200:8"),
    "b200:8",
)
"""Topologies of every kind: the chips of a slice along its axes, or a number of GPUs."""

TPUS = frozenset(name.partition(":")[0] for name in EXAMPLES if "x" in name.partition(":")[2])

# Without these libtpu searches for the host of a real slice, and writes to stderr that there is none; and one process
# alone may load it, as if it used the chips.
LIBTPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}

GPUS_OF_HOST = 8


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU as XLA describes it (xla/backends/gpu/target_config/specs).

    Attributes:
        name: as the driver has it.
        capability: version of its instructions.
        cores: streaming multiprocessors.
        units: float32 units of a core.
        shared: bytes of shared memory of a core.
        clock: GHz.
        bandwidth: bytes a second of its memory.
        cache: bytes of its second level.
        memory: bytes.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    units: int
    shared: int
    clock: float
    bandwidth: int
    cache: int
    memory: int

    def describe(self) -> str:
        """Returns the description as XLA reads it, a `GpuTargetConfigProto`."""
        major, minor = self.capability
        return f"""
            gpu_device_info {{
              cuda_compute_capability {{ major: {major} minor: {minor} }}
              core_count: {self.cores} fpus_per_core: {self.units} clock_rate_ghz: {self.clock}
              memory_bandwidth: {self.bandwidth} l2_cache_size: {self.cache} device_memory_size: {self.memory}
              threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
              shared_memory_per_block: 49152 shared_memory_per_block_optin: {self.shared - 1024}
              shared_memory_per_core: {self.shared}
              registers_per_core_limit: 65536 registers_per_block_limit: 65536
              block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
            }}
            platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
            device_description_str: "{self.name}"
        """


GPUS = {
    "a100": Gpu(
        name="NVIDIA A100-SXM4-80GB",
        capability=(8, 0),
        cores=108,
        units=64,
        shared=167_936,
        clock=1.41,
        bandwidth=2_039_040_000_000,
        cache=41_943_040,
        memory=85_100_068_864,
    ),
    "h100": Gpu(
        name="NVIDIA H100 80GB HBM3",
        capability=(9, 0),
        cores=132,
        units=128,
        shared=233_472,
        clock=1.98,
        bandwidth=3_352_320_000_000,
        cache=52_428_800,
        memory=84_942_979_072,
    ),
    "h200": Gpu(
        name="NVIDIA H200 141GB HBM3e",
        capability=(9, 0),
        cores=132,
        units=128,
        shared=233_472,
        clock=1.98,
        bandwidth=4_800_000_000_000,
        cache=52_428_800,
        memory=151_397_597_184,
    ),
    "b200": Gpu(
        name="NVIDIA B200",
        capability=(10, 0),
        cores=148,
        units=128,
        shared=233_472,
        clock=1.965,
        bandwidth=7_672_320_000_000,
        cache=132_644_864,
        memory=191_514_411_008,
    ),
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices that programs are compiled for.

    Attributes:
        name: as it was given.
        backend: JAX's name of their kind, "tpu" or "gpu".
        compiler: the distribution that compiles for them.
        devices: all of them.
    """

    name: str
    backend: str
    compiler: str
    devices: tuple[Any, ...]


_target: contextvars.ContextVar[Topology | None] = contextvars.ContextVar("topology", default=None)


@contextlib.contextmanager
def compile_for(topology: Topology | None) -> Iterator[None]:
    """Makes the devices of a topology those of `devices` and `backend` inside the context; `None` for JAX's."""
    token = _target.set(topology)
    try:
        yield
    finally:
        _target.reset(token)


def devices() -> Sequence[Any]:
    """Returns the devices that programs are compiled for: JAX's, or those of the topology of `compile_for`."""
    target = _target.get()
    return jax.devices() if target is None else target.devices


def backend() -> str:
    """Returns the kind of `devices()`, as `jax.default_backend()`."""
    target = _target.get()
    return jax.default_backend() if target is None else target.backend


def are_devices_absent() -> bool:
    """Returns whether programs are compiled for devices that this machine does not have."""
    return _target.get() is not None


def find(name: str) -> Topology:
    """Returns the topology of a name.

    Args:
        name: `KIND:SIZE`: the chips of a TPU slice along its axes (`v5e:4x4`, `v5p:4x4x4`), or GPUs (`h100:8`).

    Raises:
        UserError: for a name that JAX has no topology of, and without the compiler for its devices.
    """
    kind, _, size = name.partition(":")
    if kind in GPUS:
        return _find_gpus(name, GPUS[kind], size)
    if kind not in TPUS and not _is_installed("libtpu"):
        raise unknown("--topology", name, EXAMPLES, "a slice of TPUs or a number of GPUs")
    return _find_slice(name)


def count_chips(name: str) -> int:
    """Returns the number of chips, or GPUs, that a topology's name has, without its compiler."""
    return math.prod(int(number) for number in re.findall(r"\d+", name.partition(":")[2]))


def _find_slice(name: str) -> Topology:
    if not _is_installed("libtpu"):
        raise UserError(
            f"--topology={name} must have the compiler for TPUs, got no libtpu. Install it, which needs no TPU: pip"
            " install 'jaxdistill[tpu]'"
        )
    from jax.experimental import topologies

    for variable, value in LIBTPU.items():
        os.environ.setdefault(variable, value)
    # A host has four chips unless it is given; a slice of a single chip is a part of one.
    options = {"chips_per_host_bounds": (1, 1, 1)} if count_chips(name) == 1 else {}
    try:
        slice_devices = topologies.get_topology_desc(name, platform="tpu", **options).devices
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise _refuse(name, str(error)) from error
    return Topology(name, "tpu", "libtpu", tuple(slice_devices))


def _find_gpus(name: str, gpu: Gpu, size: str) -> Topology:
    count = int(size) if size.isdecimal() else 0
    if count < 1 or (count > GPUS_OF_HOST and count % GPUS_OF_HOST):
        raise _refuse(name, f"GPUs are one to {GPUS_OF_HOST}, or a multiple of {GPUS_OF_HOST} on several hosts")
    versions = [version for version in (12, 13) if _is_installed(f"jax_plugins.xla_cuda{version}")]
    if not versions:
        raise UserError(
            f"--topology={name} must have the compiler for GPUs, got no plugin of CUDA. Install it, which needs no GPU:"
            " pip install 'jaxdistill[cuda-compile]'"
        )
    from jax.experimental import topologies

    of_host = min(count, GPUS_OF_HOST)
    gpus = topologies.get_topology_desc(
        name.partition(":")[0],
        platform="cuda",
        topology=f"1x{count // of_host}x{of_host}",
        target_config=gpu.describe(),
    ).devices
    return Topology(name, "gpu", f"jax-cuda{versions[0]}-plugin", tuple(gpus))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is a part of
        return False


def _refuse(name: str, reason: str) -> UserError:
    reason = reason.partition("\n")[0].removeprefix("INVALID_ARGUMENT: ")
    return UserError(
        f"--topology must be a slice of TPUs or a number of GPUs that JAX has a topology of, got {name!r} ({reason})."
        f" There are {[*EXAMPLES]} and other sizes of them"
    )
