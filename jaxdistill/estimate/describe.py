"""Lines of an estimate for `--plan`."""

from collections.abc import Mapping

from jaxdistill.estimate.chips import Chip
from jaxdistill.estimate.costs import Estimate, Memory
from jaxdistill.runtime import files

OPERATIONS = 10
"""Costliest operations that are listed."""

SHOWN = 0.005
"""Fraction of the time from which on a part of the step is listed."""


def describe_memory(memory: Memory, chip: Chip) -> str:
    """Returns the line of the bytes of a device."""
    size = files.format_bytes
    verdict = "fits" if memory.peak <= chip.memory else "does not fit"
    return (
        f"    memory: {size(memory.arguments)} of arguments, {size(memory.results)} of further results,"
        f" {size(memory.working)} of working memory; {size(memory.peak)} of {size(chip.memory)} at the peak: {verdict}"
    )


def describe(estimate: Estimate, chip: Chip, counted: Mapping[str, int], *, examples: int, devices: int) -> list[str]:
    """Returns the lines of a program's estimate.

    Args:
        estimate: the estimate.
        chip: the device.
        counted: FLOPs on all devices by type of operand.
        examples: those of a run on all devices.
        devices: that share it.
    """
    flops = sum(counted.values()) / devices / 1e9
    # With loops that count once, the time is too short.
    utilisation = "a lower bound" if estimate.loops_without_trips else f"{estimate.utilisation:.1%} of the peak"
    origin = "the compiler's estimate" if chip.clock else "a roofline"
    lines = [
        describe_memory(estimate.memory, chip),
        f"    time by {origin}: {1e3 * estimate.seconds:,.3g} ms without collectives,"
        f" {examples / max(estimate.seconds, 1e-12):,.0f} examples/s, {utilisation}"
        f" ({flops:,.4g} GFLOP of matrix products and convolutions a device)",
    ]
    lines += [
        f"      {name}: {1e3 * seconds:,.3g} ms ({seconds / estimate.seconds:.1%})"
        for name, seconds in _large(estimate)
    ]
    if chip.clock and estimate.by_roofline > SHOWN * estimate.seconds:
        lines += [
            f"      of which by a roofline, since the compiler estimates no kernels written by hand:"
            f" {1e3 * estimate.by_roofline:,.3g} ms"
        ]
    if estimate.loops_without_trips:
        lines += [f"      loops without a fixed number of trips, which count as one: {estimate.loops_without_trips}"]
    lines += [f"    {estimate.kernels:,} kernels; collectives: {describe_collectives(estimate.collectives)}"]
    lines += ["    costliest operations:"]
    for operation in estimate.operations[:OPERATIONS]:
        place = f", {operation.place}" if operation.place else ""
        runs = f" ({operation.runs} times)" if operation.runs > 1 else ""
        lines += [f"      {operation.seconds / estimate.seconds:6.1%} {operation.part}: {operation.name}{runs}{place}"]
    return lines


def describe_collectives(collectives: Mapping[str, tuple[int, int]]) -> str:
    """Returns the collectives of a program by kind, with their bytes on one device."""
    parts = [f"{number} {kind} of {files.format_bytes(size)}" for kind, (number, size) in collectives.items()]
    return ", ".join(parts) or "none"


def _large(estimate: Estimate) -> list[tuple[str, float]]:
    return [(name, seconds) for name, seconds in estimate.parts.items() if seconds > SHOWN * estimate.seconds]
