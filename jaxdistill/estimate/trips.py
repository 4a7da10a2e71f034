"""The number of iterations of a loop, from the text of an optimised module.

XLA writes the number beside a loop if a pass of its compiler needed it; libtpu's programs have none. The loop of a scan
is still a counter from a constant on, by a constant step, up to a constant. All three are read here as sums of a number
and an entry of a computation's parameter, through copies, fusions, and the tuples of the loops around.
"""

import collections
import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxdistill.estimate.hlo import Instruction

Computations = Mapping[str, list["Instruction"]]

_SAME = ("copy", "copy-start", "copy-done", "bitcast", "convert", "reshape")
_MIRRORED = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE", "NE": "NE"}


@dataclasses.dataclass(frozen=True)
class Sum:
    """An integer: a number, and an entry of a parameter unless it is constant.

    Attributes:
        number: the constant summand.
        computation: the one whose parameter has the entry; "" for a constant.
        parameter: the parameter's number.
        entry: index in the parameter's tuple; -1 for a parameter that is no tuple.
    """

    number: int
    computation: str = ""
    parameter: int = 0
    entry: int = -1

    def add(self, number: int) -> "Sum":
        """Returns the sum with a number more."""
        return dataclasses.replace(self, number=self.number + number)


class Counters:
    """Counters of the loops of a module."""

    def __init__(self, computations: Computations):
        self._instructions = {name: {x.name: x for x in parts} for name, parts in computations.items()}
        self._roots = {name: x for name, parts in computations.items() for x in parts if x.is_root}
        callers: dict[str, list[Instruction]] = collections.defaultdict(list)
        for x in (x for parts in computations.values() for x in parts):
            for name in x.called():
                callers[name].append(x)
        self._caller = {name: places[0] for name, places in callers.items() if len(places) == 1}

    def count(self, loop: "Instruction") -> int | None:
        """Returns the iterations of a loop; `None` if they depend on data, or on more than a counter."""
        body, root = _name(loop.attribute("body")), self._roots.get(_name(loop.attribute("condition")))
        compared = self._find_comparison(root)
        if compared is None:
            return None
        # The condition's parameter is the body's.
        left, right = (dataclasses.replace(x, computation=body if x.computation else "") for x in compared[1:])
        direction = compared[0]
        for side, counter, limit in ((direction, left, right), (_MIRRORED.get(direction, ""), right, left)):
            if not counter.computation:
                continue
            following = self._entry(body, self._roots.get(body), counter.entry)
            first = self._constant(self._before(loop, counter.entry))
            last = self._constant(limit)
            if following is None or first is None or last is None:
                continue
            if dataclasses.replace(following, number=0) == dataclasses.replace(counter, number=0):
                return _count_steps(side, first + counter.number, last, following.number)
        return None

    def _find_comparison(self, root: "Instruction | None") -> tuple[str, Sum, Sum] | None:
        """Returns the direction and the sides of a condition that is one comparison, in its own terms."""
        if root is None:
            return None
        if root.opcode == "compare":
            left, right = (self._read(root.computation, name) for name in root.operands)
            return None if left is None or right is None else (root.attribute("direction"), left, right)
        inner = self._find_comparison(self._roots.get(next(root.called(), ""))) if root.opcode in _CALLING else None
        if inner is None:
            return None
        left, right = (self._bind(root, side) for side in inner[1:])
        return None if left is None or right is None else (inner[0], left, right)

    def _constant(self, value: Sum | None) -> int | None:
        """Returns an integer if it is a constant, passed on by calls and by loops that leave it as it was."""
        if value is None or not value.computation:
            return value and value.number
        caller = self._caller.get(value.computation)
        if caller is None:
            return None
        if caller.opcode != "while":
            return self._constant(self._bind(caller, value))
        unchanged = dataclasses.replace(value, number=0)
        if self._entry(value.computation, self._roots.get(value.computation), value.entry) != unchanged:
            return None
        first = self._constant(self._before(caller, value.entry))
        return None if first is None else first + value.number

    def _before(self, loop: "Instruction", entry: int) -> Sum | None:
        """Returns an entry of a loop's tuple before its first iteration."""
        return self._entry(loop.computation, self._find(loop.computation, loop.operands[0]), entry)

    def _find(self, computation: str, name: str) -> "Instruction | None":
        return self._instructions.get(computation, {}).get(name)

    def _read(self, computation: str, name: str) -> Sum | None:
        """Returns the integer that an instruction computes, in terms of its computation's parameters."""
        x = self._find(computation, name)
        if x is None:
            return None
        if x.opcode == "constant":
            return Sum(int(x.literal)) if re.fullmatch(r"-?\d+", x.literal) else None
        if x.opcode == "parameter":
            return Sum(0, computation, int(x.literal))
        if x.opcode == "get-tuple-element":
            return self._entry(computation, self._find(computation, x.operands[0]), int(x.attribute("index")))
        if x.opcode in _SAME:
            return self._read(computation, x.operands[0])
        if x.opcode in _CALLING:
            root = self._roots.get(next(x.called(), ""))
            return self._bind(x, self._read(root.computation, root.name)) if root else None
        return self._add(x)

    def _add(self, x: "Instruction") -> Sum | None:
        """Returns a sum or a difference of which one side is constant."""
        if x.opcode not in ("add", "subtract"):
            return None
        left, right = (self._read(x.computation, name) for name in x.operands)
        if left is None or right is None:
            return None
        if not right.computation:
            return left.add(right.number if x.opcode == "add" else -right.number)
        return right.add(left.number) if x.opcode == "add" and not left.computation else None

    def _entry(self, computation: str, x: "Instruction | None", entry: int) -> Sum | None:
        """Returns an entry of the tuple that an instruction computes."""
        if x is None:
            return None
        if x.opcode == "tuple":
            return self._read(computation, x.operands[entry])
        if x.opcode == "parameter":
            return Sum(0, computation, int(x.literal), entry)
        if x.opcode in ("copy", "opt-barrier"):
            return self._entry(computation, self._find(computation, x.operands[0]), entry)
        if x.opcode in _CALLING:
            called = next(x.called(), "")
            return self._bind(x, self._entry(called, self._roots.get(called), entry))
        if x.opcode == "while":
            body = _name(x.attribute("body"))
            is_kept = self._entry(body, self._roots.get(body), entry) == Sum(0, body, 0, entry)
            return self._before(x, entry) if is_kept else None
        return None

    def _bind(self, caller: "Instruction", value: Sum | None) -> Sum | None:
        """Returns an integer of a called computation in terms of the caller's."""
        if value is None or not value.computation:
            return value
        operand = self._find(caller.computation, caller.operands[value.parameter])
        if operand is None:
            return None
        bound = (
            self._read(caller.computation, operand.name)
            if value.entry < 0
            else self._entry(caller.computation, operand, value.entry)
        )
        return bound and bound.add(value.number)


_CALLING = ("fusion", "call")


def _count_steps(direction: str, first: int, last: int, step: int) -> int | None:
    """Returns the steps from a number on until the comparison with the last one fails."""
    distance = last - first
    if direction in ("GT", "GE"):
        distance, step, direction = -distance, -step, {"GT": "LT", "GE": "LE"}[direction]
    if direction == "NE":
        distance, step = (distance, step) if step > 0 else (-distance, -step)
        return distance // step if step > 0 and distance >= 0 and distance % step == 0 else None
    if step <= 0 or direction not in ("LT", "LE"):
        return None
    return max(0, -(-distance // step) if direction == "LT" else distance // step + 1)


def _name(attribute: str) -> str:
    return attribute.lstrip("%")
