"""Roofline of an instruction: the least time for its products, and for moving what it reads and writes."""

import math
import re

from jaxdistill.estimate.chips import Chip
from jaxdistill.estimate.hlo import Instruction, Module, count_bytes

Array = tuple[str, tuple[int, ...]]

_TYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "s8": "int8"}
_LABELS = re.compile(r"dim_labels=\w+_(\w+)->\w+")
_SPLASH = re.compile(r"splash_m[hq]a_(fwd|dq|dkv)_")
_CONTRACTED = re.compile(r'lhs_contracting_dim(?:ension)?s(?:"?[=:])[\[{]([^\]}]*)[\]}]')


def least_seconds(module: Module, instruction: Instruction, chip: Chip) -> float:
    """Returns the larger of the times that products and memory need; views and asynchronous copies need none."""
    target = instruction.attribute("custom_call_target").strip('"')
    if instruction.opcode in FREE or instruction.opcode.endswith(("-start", "-done")) or target in VIEWS:
        return 0.0
    moved = count_bytes(instruction.arrays) + count_bytes(module.operand_arrays(instruction))
    products = chip.least_seconds(count_products(module, instruction))
    return max(moved / chip.bandwidth, products)


FREE = frozenset(
    [
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call"),
        *("after-all", "partition-id", "replica-id", "opt-barrier"),
    ]
)
"""Instructions that move nothing themselves."""

LANES = 128
"""Numbers that a TPU multiplies along the width of a head at least."""

PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
"""Products of all queries with all keys or values in a kernel of splash attention, those of recomputation included."""

VIEWS = ("ConcatBitcast", "GatherScatterIndicesBitpacked", "Sharding")
"""Custom calls of libtpu that move nothing."""


def count_products(module: Module, instruction: Instruction) -> dict[str, int]:
    """Counts the FLOPs of an instruction's matrix products and convolutions, by type of operand."""
    counted: dict[str, int] = {}
    for part in module.parts(instruction):
        taken = module.operand_arrays(part)
        if match := _SPLASH.match(part.name):
            # Two tables of the mask's blocks come first; blocks that it hides count as well.
            query, key = taken[2], taken[3]
            taken, number = [query], PRODUCTS[match[1]] * 2 * math.prod(query[1][:-1]) * key[1][-2] * _fill(key[1][-1])
        else:
            number = _count(part, taken)
        if number:
            kind = _TYPES.get(taken[0][0], "float32")
            counted[kind] = counted.get(kind, 0) + number
    return counted


def _fill(width: int) -> int:
    return -(-width // LANES) * LANES


def _count(part: Instruction, taken: list[Array]) -> int:
    target = part.attribute("custom_call_target").strip('"')
    if part.opcode == "dot" or target.startswith("__cublas$"):
        match = _CONTRACTED.search(part.attributes)
        axes = [int(number) for number in re.findall(r"\d+", match[1])] if match else []
        return 2 * math.prod(part.arrays[0][1]) * math.prod(taken[0][1][axis] for axis in axes)
    if part.opcode == "convolution" or target.startswith("__cudnn$conv"):
        # The kernel and the output of the forward convolution; a gradient's are among its operands and its result.
        arrays = {
            "__cudnn$convBackwardInput": (taken[0], taken[1]),
            "__cudnn$convBackwardFilter": (taken[1], part.arrays[0]),
        }
        output, kernel = arrays.get(target, (part.arrays[0], taken[1]))
        match = _LABELS.search(part.attributes)
        features = kernel[1][match[1].index("o")] if match else 1
        return 2 * math.prod(output[1]) * math.prod(kernel[1]) // features
    return 0
