"""The time of a step by its parts, from a profile of the step as it runs.

The step is one program. While a profile is recorded, the runtime notes when each operation of it begins and ends, and
the compiler's text has the scopes of each operation (`train.step`, `networks.run`). Each moment of the recorded steps
is counted once: for the part of the operation that runs then, for the innermost if several are nested, in equal shares
if several run at once; or, if none runs, as time that the loop waits for data, or other idle time of the device. Hence
the parts add up to the wall time; nothing is scaled. An operation that the compiler fused from several parts counts for
the part of its result. Recording slows operations that take microseconds, and with them a step that has many.
"""

import collections
import dataclasses
import gzip
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxdistill.train.evaluate import METRICS
from jaxdistill.train.step import INPUT, OPTIMIZER, WRITING

WAITING, IDLE, OTHER = "data", "idle", "other"
"""Time without an operation of the first device, while the loop waits for data, or otherwise; operations of no part."""

WAITED = "jaxdistill.data"
"""Name of the loop's waits for data in a profile."""

MOST_EVENTS = 1_000_000
"""Events that JAX keeps in a profile in the form of Perfetto."""

_PLAIN = "|".join([INPUT, WRITING, OPTIMIZER, METRICS])
_PART = re.compile(rf"(networks|terms)\.(\w+)|(?<![\w.])({_PLAIN})(?![\w.])")
_MODULE = re.compile(r"HloModule ([\w.\-]+)")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$", re.MULTILINE)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$\n((?:.*\n)*?)\}", re.MULTILINE)
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(r"calls=%?([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Event:
    """An operation, or the wait for data, in one thread or stream.

    Attributes:
        start, end: nanoseconds.
        name: of the operation in its module; "" for a wait.
        module: of the program, such as "jit_one_step".
        run: number of the program's execution.
    """

    start: float
    end: float
    name: str = ""
    module: str = ""
    run: int = 0


def find_part(op_name: str) -> str:
    """Returns the part of a step that an operation belongs to, by the scopes of `train.step` and `networks.run`."""
    match = _PART.search(op_name)
    if match is None:
        return OTHER
    if match[1] == "terms":
        return "loss"
    if match[3]:
        return match[3]
    # `transpose(jvp(networks.student))`: transforms are around the outermost scope.
    transforms = op_name[: match.start()].rpartition("/")[2]
    return f"{match[2]} {'backward' if 'transpose(' in transforms else 'forward'}"


def read_parts(text: str) -> tuple[str, dict[str, str]]:
    """Returns the name of a compiled program, and the part of each operation by name, without those of no part.

    Args:
        text: of the program.
    """
    module = _MODULE.match(text)
    bodies = {match[1]: match[2] for match in _COMPUTATION.finditer(text)}
    parts = {}
    for name, rest in _INSTRUCTION.findall(text):
        name_of_op, called = _OP_NAME.search(rest), _CALLED.search(rest)
        # A fusion without a name of its own has the last one in it, which is nearest to its result.
        names = [name_of_op[1]] if name_of_op else _OP_NAME.findall(bodies.get(called[1], ""))[-1:] if called else []
        if names and (part := find_part(names[0])) != OTHER:
            parts[name] = part
    return module[1] if module else "", parts


def split(
    threads: Sequence[Sequence[Event]], module: str, parts: Mapping[str, str], runs: int
) -> tuple[dict[str, float], int]:
    """Returns the seconds of each part from the start of the first run to that of the last, and the runs in that time.

    Of a single run its own time is taken; without one, `({}, 0)`.

    Args:
        threads: events of each thread or stream, and those of waits.
        module: the name of the program.
        parts: by operation.
        runs: those that count, the last ones; the profile may begin within one more.
    """
    ran: dict[int, list[float]] = collections.defaultdict(list)
    for event in (event for thread in threads for event in thread if event.module == module):
        ran[event.run] += [event.start, event.end]
    if not ran:
        return {}, 0
    spans = sorted((min(times), max(times)) for times in ran.values())[-runs:]
    first, last = spans[0][0], spans[-1][0] if len(spans) > 1 else spans[0][1]
    edges: list[tuple[float, int, str]] = []
    for thread in threads:
        for start, end, part in _innermost(thread, module, parts):
            start, end = max(start, first), min(end, last)
            if start < end:
                edges += [(start, 1, part), (end, -1, part)]
    edges += [(last, 0, "")]
    seconds: dict[str, float] = collections.defaultdict(float)
    active: collections.Counter[str] = collections.Counter()
    now = first
    for moment, change, part in sorted(edges):
        for name, fraction in _shares(active):
            seconds[name] += fraction * (moment - now) / 1e9
        now = moment
        active[part] += change
    return {name: value for name, value in sorted(seconds.items(), key=lambda item: -item[1]) if value > 0}, max(
        len(spans) - 1, 1
    )


def _shares(active: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    """Yields the parts that a moment counts for."""
    running = {name: number for name, number in active.items() if number > 0 and name != WAITING}
    if running:
        yield from ((name, number / sum(running.values())) for name, number in running.items())
    else:
        yield (WAITING if active.get(WAITING, 0) > 0 else IDLE), 1.0


def _innermost(thread: Iterable[Event], module: str, parts: Mapping[str, str]) -> Iterator[tuple[float, float, str]]:
    """Yields the times in which one part runs in a thread: where events are nested, that of the innermost of a part."""
    open_: list[tuple[float, str]] = []  # ends and parts of the events around
    now = 0.0
    for event in sorted(thread, key=lambda event: (event.start, -event.end)):
        while open_ and open_[-1][0] <= event.start:
            end, part = open_.pop()
            yield now, end, part
            now = max(now, end)
        if open_:
            yield now, event.start, open_[-1][1]
        now = event.start
        outer = open_[-1][1] if open_ else OTHER
        part = parts.get(event.name, outer) if event.module == module else OTHER
        part = part if event.name else WAITING
        open_.append((min(event.end, open_[-1][0]) if open_ else event.end, part))
    while open_:
        end, part = open_.pop()
        yield now, end, part
        now = max(now, end)


def read_events(path: pathlib.Path) -> list[list[Event]]:
    """Reads the events of the first device, and of waits, from a profile in the form of Perfetto (`.json.gz`).

    Returns [] for one that was cut, since JAX keeps a million events.
    """
    # JAX's own reader of `.xplane.pb` aborts the process on some profiles of jax 0.12.
    entries = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    if len(entries) >= MOST_EVENTS:
        return []
    devices = {entry["pid"]: entry["args"]["name"] for entry in entries if entry.get("name") == "process_name"}
    threads: dict[tuple[int, int], list[Event]] = collections.defaultdict(list)
    for entry in entries:
        if entry.get("ph") == "X" and (event := _read_event(entry, devices.get(entry["pid"], ""))):
            threads[entry["pid"], entry["tid"]].append(event)
    return [*threads.values()]


def _read_event(entry: Mapping[str, Any], device: str) -> Event | None:
    start, end = 1e3 * entry["ts"], 1e3 * (entry["ts"] + entry["dur"])
    if entry["name"] == WAITED:
        return Event(start, end)
    facts = entry.get("args", {})
    number = facts.get("device_ordinal", device.rpartition(":")[2] if device.startswith("/device:") else 0)
    if not {"hlo_op", "hlo_module", "run_id"} <= {*facts} or int(number) != 0:
        return None
    return Event(start, end, facts["hlo_op"], module=facts["hlo_module"], run=int(facts["run_id"]))


def describe(seconds: Mapping[str, float], steps: int) -> str:
    """Returns the line of the log.

    Args:
        seconds: by part, of `split`.
        steps: in that time.
    """
    total = sum(seconds.values())
    parts = [f"{name} {1e3 * value / steps:,.2f} ({value / total:.1%})" for name, value in seconds.items()]
    return f"a recorded step takes {1e3 * total / steps:,.2f} ms: {', '.join(parts)}"
