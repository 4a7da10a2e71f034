"""Clock, bandwidth and peak of the devices that programs are compiled for."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdistill.errors import unknown
from jaxdistill.runtime import topology
from jaxdistill.runtime.topology import Topology
from jaxdistill.train import flops

# Of the device that `flops.peaks` is of: FLOPs of its matrix units in a cycle, cores, bytes a second and bytes of its
# memory. From the tables of cloud.google.com/tpu/docs/{v2,v3,v4,v5e,v5p,v6e,tpu7x} and jax/_src/pallas/mosaic/
# tpu_info.py. A v6e is listed with two units of 256 x 256; libtpu's estimate for a large product, 369,231 FLOPs in a
# cycle, needs twice as many, and so does that for a 7x.
_DEVICES = {
    "TPU v2": (2 * 128**2, 1, 358e9, 8 << 30),
    "TPU v3": (2 * 2 * 128**2, 1, 412e9, 16 << 30),
    "TPU v4": (2 * 4 * 2 * 128**2, 2, 1228e9, 32 << 30),
    "TPU v5 lite": (4 * 2 * 128**2, 1, 819e9, 16 << 30),
    "TPU v5": (2 * 4 * 2 * 128**2, 2, 2765e9, 95 << 30),
    "TPU v6 lite": (4 * 2 * 256**2, 1, 1638e9, 32 << 30),
    "TPU7x": (4 * 2 * 256**2, 1, 3690e9, 96 << 30),
}


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device of a topology.

    Attributes:
        kind: JAX's name of it.
        fraction: its part of the device that `flops.peaks` is of; a half for one core of a TPU v4, which a run joins.
        clock: cycles a second that the compiler's estimates count; 0 for a GPU, whose compiler makes none.
        bandwidth: bytes a second of its memory.
        memory: bytes.
    """

    kind: str
    fraction: float
    clock: float
    bandwidth: float
    memory: int

    def least_seconds(self, counted: Mapping[str, int]) -> float:
        """Returns the seconds in which the device does FLOPs, by type of operand, at its peak.

        A type without a peak of its own has that of float32.
        """
        rates = flops.peaks(self.kind)
        return sum(n / rates.get(kind, rates["float32"]) for kind, n in counted.items()) / self.fraction


def find_chip(target: Topology) -> Chip:
    """Returns the device of a topology.

    Raises:
        UserError: for a device without a row here.
    """
    device = target.devices[0]
    return _find_gpu(target) if target.backend == "gpu" else _find_tpu(device)


def _find_tpu(device: Any) -> Chip:
    if device.device_kind not in _DEVICES:
        raise unknown("device of --topology", device.device_kind, _DEVICES, "one whose clock is listed")
    cycle, cores, bandwidth, memory = _DEVICES[device.device_kind]
    fraction = device.num_cores / cores
    return Chip(
        device.device_kind,
        fraction,
        clock=flops.peaks(device.device_kind)["bfloat16"] / cycle,
        bandwidth=fraction * bandwidth,
        memory=int(fraction * memory),
    )


def _find_gpu(target: Topology) -> Chip:
    gpu = topology.GPUS[target.name.partition(":")[0]]
    return Chip(gpu.name, 1.0, 0.0, bandwidth=gpu.bandwidth, memory=gpu.memory)
