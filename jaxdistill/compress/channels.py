"""Axes of kernels, by name and shape: those over the layers of a scanned stack, and those that a layer sums over.

    Dense                       [in, out]                   sums over in
    Conv                        [*window, in, out]          sums over the window and in
    DenseGeneral query, ...     [width, heads, head_width]  sums over width
    DenseGeneral out            [heads, head_width, width]  sums over heads and head_width
    Embed                       [rows, width]               one channel a row

A scanned layer's kernel has one axis before these. The others are those of the output channels.
"""

import re

SCANNED = re.compile(r"(^|/)blocks/")
"""Names of params of scanned layers (`models/transformer.py`)."""

PROJECTION = re.compile(r"(^|/)(query|key|value)/[^/]*$")
"""Names of params of layers with one input axis and several output axes."""


def is_kernel(name: str) -> bool:
    """Whether a param is the kernel of a layer, or a factor of one."""
    return name.rpartition("/")[2].startswith("kernel")


def is_scanned(name: str) -> bool:
    """Whether a param has a first axis over the layers of a scanned stack."""
    return SCANNED.search(name) is not None


def layer_axes(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the axes of a param that are those of one layer: all except the first of a scanned one."""
    return tuple(range(is_scanned(name), len(shape)))


def summed_axes(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the axes of a kernel that its layer sums over, so that the rest are its output channels.

    Args:
        name: of the param, such as `block0/attention/query/kernel`.
        shape: as stored.
    """
    axes = layer_axes(name, shape)
    if name.endswith("embedding"):
        return axes[-1:]
    if PROJECTION.search(name):
        return axes[:1]
    return axes[:-1]
