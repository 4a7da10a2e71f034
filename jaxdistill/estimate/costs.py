"""The estimate of a compiled program: time by part of a step, collectives, memory, and the costliest operations.

On TPUs, time is the compiler's own estimate of cycles for every fusion, over the clock. It has none for kernels written
by hand and for collectives: the first count with their roofline, the second not at all, as if they overlapped with the
rest. On GPUs, whose compiler estimates nothing, all time is a roofline.
"""

import collections
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from jaxdistill.estimate import roofline
from jaxdistill.estimate.chips import Chip
from jaxdistill.estimate.hlo import Instruction, Module, count_bytes
from jaxdistill.train.time_split import OTHER, find_part

COLLECTIVE = re.compile(
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute|collective-broadcast)(-start)?"
)

_TRANSFORM = re.compile(r"\w+\(")
_CONTROL = ("while", "body", "closed_call", "checkpoint", "cond", "rematted_computation")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of a device that a program needs.

    Attributes:
        arguments, results: those that come in and go out; `results` without those that are stored in arguments.
        working: in between, at the peak.
    """

    arguments: int
    results: int
    working: int

    @property
    def peak(self) -> int:
        """All of them together."""
        return self.arguments + self.results + self.working


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of one place in the code, in all layers and loops together.

    Attributes:
        part: of the step.
        name: JAX's, with the modules around it and without the numbers of layers.
        place: file and line of this package; "" for the compiler's own.
        runs: how often it runs.
        seconds: of all runs.
    """

    part: str
    name: str
    place: str
    runs: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The estimate of a program on one device.

    Attributes:
        seconds: of all operations, one after the other, without collectives.
        parts: seconds by part: `NETWORK forward`, `NETWORK backward`, `loss`, `optimizer`, `input`, `writing`,
            `metrics`, `other`.
        operations: from the costliest on.
        collectives: `{kind: (number, bytes)}` of the results on one device.
        kernels: the number of instructions that are executed and move something.
        by_roofline: seconds of operations that the compiler has no estimate for.
        loops_without_trips: the number of loops that count as one iteration.
        utilisation: the fraction of the device's peak, by the FLOPs that were given.
        memory: bytes.
    """

    seconds: float
    parts: Mapping[str, float]
    operations: tuple[Operation, ...]
    collectives: Mapping[str, tuple[int, int]]
    kernels: int
    by_roofline: float
    loops_without_trips: int
    utilisation: float
    memory: Memory


def estimate(compiled: Any, chip: Chip, counted: Mapping[str, int], devices: int) -> Estimate:
    """Returns the estimate of a compiled program.

    Args:
        compiled: JAX's compiled program, for that device.
        chip: the device.
        counted: FLOPs of the whole program on all devices, by type of operand (`train.flops`).
        devices: that share it.
    """
    module = Module(compiled.as_text())
    by_operation: dict[tuple[str, str, str], list[float]] = collections.defaultdict(lambda: [0, 0.0])
    by_roofline, kernels = 0.0, 0
    for instruction in module.instructions:
        seconds, is_estimated = _seconds(module, instruction, chip)
        if instruction.is_fused or not seconds:
            continue
        by_roofline += 0.0 if is_estimated else seconds * instruction.runs
        kernels += instruction.runs
        part, place = find_part(instruction.op_name), module.place(instruction)
        entry = by_operation[part, shorten(instruction.op_name or instruction.opcode), place]
        entry[0] += instruction.runs
        entry[1] += seconds * instruction.runs
    operations = [Operation(*key, runs=int(runs), seconds=seconds) for key, (runs, seconds) in by_operation.items()]
    parts: collections.Counter[str] = collections.Counter()
    for operation in operations:
        parts[operation.part] += operation.seconds
    total = sum(parts.values())
    return Estimate(
        seconds=total,
        parts=dict(sorted(parts.items())),
        operations=tuple(sorted(operations, key=lambda operation: -operation.seconds)),
        collectives=_count_collectives(module),
        kernels=kernels,
        by_roofline=by_roofline,
        loops_without_trips=len(module.loops_without_trips),
        utilisation=chip.least_seconds(counted) / devices / total if total else 0.0,
        memory=read_memory(compiled),
    )


def _seconds(module: Module, instruction: Instruction, chip: Chip) -> tuple[float, bool]:
    """Returns the time of one run, and whether the compiler estimated it."""
    cycles = instruction.cycles
    if chip.clock and cycles is not None:
        return cycles / chip.clock, True
    if any(COLLECTIVE.fullmatch(part.opcode) for part in module.parts(instruction)):
        return 0.0, False
    return roofline.least_seconds(module, instruction, chip), False


def _count_collectives(module: Module) -> dict[str, tuple[int, int]]:
    """Returns number and bytes by kind; the compiler fuses some of them with what follows."""
    counted: dict[str, tuple[int, int]] = {}
    for instruction in module.instructions:
        if match := COLLECTIVE.fullmatch(instruction.opcode):
            # The start of an asynchronous one has operands and results in its result.
            sizes = [count_bytes([array]) for array in instruction.arrays]
            size = max(sizes, default=0) if match[2] and match[1] != "all-reduce" else sum(sizes)
            number, total = counted.get(match[1], (0, 0))
            counted[match[1]] = number + instruction.runs, total + instruction.runs * size
    return counted


def read_memory(compiled: Any) -> Memory:
    """Returns the bytes of a device that a compiled program needs."""
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Memory(memory.argument_size_in_bytes, results, memory.temp_size_in_bytes)


def read_excess(error: Exception) -> int | None:
    """Returns the bytes of a device that libtpu found a program to need; `None` for an error of another kind.

    Its message has `Used 34.60G of 15.75G hbm`, in units of 1,024.
    """
    match = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", str(error))
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " ")) if match else None


def shorten(op_name: str) -> str:
    """Returns the last scopes of an operation without its part, transforms, and the numbers of layers."""
    name = _TRANSFORM.sub("", op_name).replace(")", "")
    scopes = [scope for scope in name.split("/") if scope and scope not in _CONTROL and find_part(scope) == OTHER]
    return re.sub(r"(?<=[a-z_])\d+\b", "", "/".join(scopes[-4:]))
