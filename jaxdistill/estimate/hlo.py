"""The text of an optimised HLO module: its instructions, how often each runs, and the lines that they come from."""

import collections
import dataclasses
import functools
import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from jaxdistill.estimate.trips import Counters

PACKAGE = pathlib.Path(__file__).parents[1]

WRAPPERS = (
    "products.py",
    "networks/batch_sharding.py",
    "compress/fold_batchnorm.py",
    "compress/integer_inference.py",
)
"""Files of this package that wrap calls of every module, and are the place of none."""

_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(
    r"\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.+?) (?P<opcode>[a-z][\w\-]*)\((?P<rest>.*)$"
)
_CONTINUED = re.compile(r"\n(?=\"|\}[^\n])")
"""The ends of lines within an instruction: those of the metadata of a Pallas kernel."""

_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"\w+_trip_count":\{"n":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_FRAME = re.compile(r"stack_frame_id=(\d+)")
_SOURCE = re.compile(r'source_file="([^"]*)" source_line=(\d+)')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_ROW = re.compile(r"^(\d+) (?:\"(.*)\"|\{(.*)\})$", re.MULTILINE)

_CALLS = {
    "while": ("body", "condition"),
    "fusion": ("calls",),
    "async-start": ("calls",),
    "call": ("to_apply",),
    "conditional": ("branch_computations", "true_computation", "false_computation"),
}
"""Attributes with the computations that an instruction runs; those that a reduction applies are a part of it."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction of a module.

    Attributes:
        name: in its module.
        opcode: such as "fusion".
        shape: type of the result, as text.
        operands: names of the instructions whose results it takes.
        attributes: the text after the operands.
        computation: the one that it is in.
        literal: the number of a constant or of a parameter, as text.
        is_root: whether its result is that of its computation.
        runs: how often a run of the module executes it.
        is_fused: whether it is a part of another instruction.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    attributes: str
    computation: str
    literal: str = ""
    is_root: bool = False
    runs: int = 0
    is_fused: bool = False

    @property
    def op_name(self) -> str:
        """The operation of JAX that it computes, with the scopes around it; "" for one of the compiler's own."""
        match = _OP_NAME.search(self.attributes)
        return match[1] if match else ""

    @property
    def cycles(self) -> int | None:
        """The compiler's estimate for one run; `None` if it made none."""
        match = _CYCLES.search(self.attributes)
        return int(match[1]) if match else None

    @property
    def trips(self) -> int | None:
        """The iterations of a loop that the compiler wrote down; `None` if it did not."""
        match = _TRIPS.search(self.attributes)
        return int(match[1]) if match else None

    @property
    def arrays(self) -> list[tuple[str, tuple[int, ...]]]:
        """The types and shapes of the arrays of its result."""
        return read_arrays(self.shape)

    def attribute(self, key: str) -> str:
        """Returns an attribute's text, such as "kLoop" of `kind`; "" without it."""
        match = re.search(rf"(?:^|[ ,]){key}=(\{{[^}}]*\}}|[^, ]+)", self.attributes)
        return match[1] if match else ""

    def called(self) -> Iterator[str]:
        """Yields the names of the computations that it runs."""
        for key in _CALLS.get(self.opcode, ()):
            yield from _NAME.findall(self.attribute(key))


class Module:
    """An optimised HLO module."""

    def __init__(self, text: str):
        self._head, _, body = text.partition("\n\n%")
        self._entry, self._computations = _read_computations(f"\n%{body}" if body else text)

    @functools.cached_property
    def instructions(self) -> list[Instruction]:
        """All instructions that run, with the number of their runs."""
        runs: collections.Counter[tuple[str, bool]] = collections.Counter()

        def visit(name: str, times: int, is_fused: bool) -> None:
            runs[name, is_fused] += times
            for instruction in self._computations.get(name, ()):
                trips = self.count_trips(instruction) if instruction.opcode == "while" else 1
                for callee in instruction.called():
                    visit(callee, times * (1 if trips is None else trips), is_fused or instruction.opcode == "fusion")

        visit(self._entry, 1, False)
        return [
            dataclasses.replace(instruction, runs=times, is_fused=is_fused)
            for (name, is_fused), times in runs.items()
            for instruction in self._computations.get(name, ())
        ]

    def count_trips(self, loop: Instruction) -> int | None:
        """Returns the iterations of a loop; `None` if they depend on data."""
        return self._counters.count(loop) if loop.trips is None else loop.trips

    @functools.cached_property
    def _counters(self) -> Counters:
        return Counters(self._computations)

    @property
    def loops_without_trips(self) -> list[str]:
        """The loops that count as one iteration, since their number depends on data."""
        return [x.name for x in self.instructions if x.opcode == "while" and self.count_trips(x) is None]

    def operand_arrays(self, instruction: Instruction) -> list[tuple[str, tuple[int, ...]]]:
        """Returns the types and shapes of the arrays that an instruction takes."""
        shapes = self._shapes[instruction.computation]
        return [array for name in instruction.operands for array in read_arrays(shapes.get(name, ""))]

    @functools.cached_property
    def _shapes(self) -> Mapping[str, Mapping[str, str]]:
        return {name: {x.name: x.shape for x in parts} for name, parts in self._computations.items()}

    def parts(self, instruction: Instruction) -> Iterator[Instruction]:
        """Yields the instructions that are fused into one, or itself."""
        names = [*instruction.called()] if instruction.opcode == "fusion" else []
        for name in names:
            for part in self._computations.get(name, ()):
                yield from self.parts(part)
        if not names:
            yield instruction

    def place(self, instruction: Instruction) -> str:
        """Returns the line of this package that an instruction comes from, as `models/vit.py:12`, or ""."""
        if match := _SOURCE.search(instruction.attributes):
            return _shorten(match[1], match[2])
        match = _FRAME.search(instruction.attributes)
        return self._places.get(int(match[1]), "") if match else ""

    @functools.cached_property
    def _places(self) -> Mapping[int, str]:
        """The innermost line of this package in every stack of calls."""
        files, locations, frames = (
            _read_table(self._head, name) for name in ("FileNames", "FileLocations", "StackFrames")
        )
        places: dict[int, str] = {}
        for number in frames:
            place, frame, seen = "", number, set()
            while frame in frames and frame not in seen and not place:
                seen.add(frame)
                location = _read_numbers(locations.get(_read_numbers(frames[frame])["file_location_id"], ""))
                place = _shorten(files.get(location.get("file_name_id", 0), ""), location.get("line", 0))
                # A parent is numbered from 1, and 1 is the parent of an outermost frame.
                frame = _read_numbers(frames[frame]).get("parent_frame_id", 0) - 1
            places[number] = place
        return places


def read_arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """Reads `(f32[2,3]{1,0}, s32[])` as `[("f32", (2, 3)), ("s32", ())]`."""
    return [(kind, tuple(int(n) for n in sizes.split(",") if n)) for kind, sizes in _ARRAY.findall(shape)]


def count_bytes(arrays: Sequence[tuple[str, tuple[int, ...]]]) -> int:
    """Counts the bytes of arrays, without padding."""
    return sum(math.prod(sizes) * _bits(kind) // 8 for kind, sizes in arrays)


def _bits(kind: str) -> int:
    """Returns the bits of a number of HLO's type, such as f8e4m3fn, bf16, pred or s4; 0 for a token."""
    match = re.match(r"[a-z]+(\d+)", kind)
    return 8 if kind == "pred" else int(match[1]) if match else 0


def _read_computations(text: str) -> tuple[str, dict[str, list[Instruction]]]:
    """Returns the name of the entry, and the instructions of every computation."""
    entry, computation = "", ""
    computations: dict[str, list[Instruction]] = {}
    for line in _CONTINUED.sub("", text).splitlines():
        if line[:1].isspace():
            if match := _INSTRUCTION.match(line):
                operands, attributes = _split_operands(match["rest"])
                names = tuple(_NAME.findall(operands))
                instruction = Instruction(
                    match["name"],
                    match["opcode"],
                    match["shape"],
                    operands=names,
                    attributes=attributes,
                    computation=computation,
                    literal="" if names else operands,
                    is_root=match["root"] is not None,
                )
                computations[computation].append(instruction)
        elif match := _COMPUTATION.match(line):
            computation = match["name"]
            computations[computation] = []
            entry = computation if match["entry"] else entry
    return entry, computations


def _split_operands(rest: str) -> tuple[str, str]:
    """Splits the text after an opening bracket at the bracket that closes it."""
    depth = 1
    for position, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return rest[:position], rest[position + 1 :]
    return rest, ""


def _read_table(head: str, title: str) -> dict[int, str]:
    """Reads a table of a module's head: its rows by number."""
    _, _, rest = head.partition(f"\n{title}\n")
    rows = rest.partition("\n\n")[0]
    return {int(number): text or fields for number, text, fields in _ROW.findall(rows)}


def _read_numbers(fields: str) -> dict[str, int]:
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", fields)}


def _shorten(file: str, line: int | str) -> str:
    """Returns the place of a line of this package, and "" for another's."""
    path = pathlib.PurePath(file)
    name = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else ""
    return f"{name}:{line}" if name and name not in WRAPPERS else ""
