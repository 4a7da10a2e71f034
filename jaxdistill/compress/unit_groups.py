"""Units of a network that can be removed together, found by tracing it: filters, heads, hidden units, width.

A group is a class of axes of arrays. A unit is one position of them: the column of the layer that computes it, its bias
and statistics, and the row of each layer that reads it. `merging.axis_trace` finds the classes.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxdistill.compress.layer_graph import LAYERS
from jaxdistill.core import Variables, path_name
from jaxdistill.merging.axis_trace import FILTERS, FIXED, HEAD_WIDTH, HEADS, STREAM, AxisTrace

KINDS = ("filters", "heads", "hidden", "width", "head_width")
"""Outputs of convolutions; heads of attention; units of other layers; those that sums or embeddings tie; the width of a
head."""

Arrays = Mapping[str, Array]
"""Arrays by flat name, with the collection in front."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis of an array, or one factor of it.

    Attributes:
        array: flat name with the collection in front.
        axis: its number.
        sizes: of its factors, the slowest first; one for a whole axis.
        factor: the number of the factor whose positions are units.
        reads: the axis of the layer's input that this axis of its kernel reads, from -1, the last, on; 0 for none.
    """

    array: str
    axis: int
    sizes: tuple[int, ...]
    factor: int = 0
    reads: int = 0

    def units_first(self, x: Array, axis: int | None = None) -> Array:
        """Returns an array with the units as its first axis and everything else flat, `[units, -1]`.

        Args:
            x: the array, or another one that has this axis.
            axis: its number there.
        """
        place = self.axis if axis is None else axis % x.ndim
        wide = x.reshape(*x.shape[:place], *self.sizes, *x.shape[place + 1 :])
        return jnp.moveaxis(wide, place + self.factor, 0).reshape(self.sizes[self.factor], -1)

    def take(self, x: Array, index: Int[Array, " kept"]) -> Array:
        """Returns an array with some units of the axis."""
        place = self.axis
        wide = x.reshape(*x.shape[:place], *self.sizes, *x.shape[place + 1 :])
        wide = jnp.take(wide, index, place + self.factor)
        return wide.reshape(*x.shape[:place], -1, *x.shape[place + 1 :])


@dataclasses.dataclass(frozen=True)
class Group:
    """Units that are removed one by one from several arrays.

    Attributes:
        name: the first of its params and the number of the axis, `block0/feed_forward/up/kernel:1`.
        kind: one of `KINDS`.
        size: number of units.
        axes: where they are.
    """

    name: str
    kind: str
    size: int
    axes: tuple[Axis, ...]


@dataclasses.dataclass(frozen=True)
class Units:
    """All groups of a network, and its work.

    Attributes:
        groups: by name.
        products: FLOPs of each matrix product and convolution, with the groups whose sizes it is proportional to.
    """

    groups: Mapping[str, Group]
    products: tuple[tuple[float, tuple[str, ...]], ...]

    def flops(self, sizes: Mapping[str, int]) -> float:
        """Returns the multiplications and additions if groups have other sizes; groups that are absent stay."""
        return sum(
            flops * math.prod(sizes[name] / self.groups[name].size for name in names if name in sizes)
            for flops, names in self.products
        )

    def shape(self, array: str, shape: tuple[int, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Returns the shape of an array if groups have other sizes."""
        fractions = [1.0] * len(shape)
        for name, number in sizes.items():
            for axis in self.groups[name].axes:
                if axis.array == array:
                    fractions[axis.axis] *= number / self.groups[name].size
        return tuple(round(size * fraction) for size, fraction in zip(shape, fractions, strict=True))


def find(apply: Callable[..., Any], variables: Variables, *inputs: Any) -> Units:
    """Finds the groups of a network.

    Args:
        apply: `(variables, *inputs) -> logits`, in inference mode.
        variables: arrays or shapes.
        inputs: arrays or shapes.
    """
    reads: dict[str, tuple[int, ...]] = {}
    with nn.intercept_methods(functools.partial(_record_inputs, reads)):
        closed = jax.make_jaxpr(apply)(variables, *inputs)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    trace = AxisTrace()
    axes = [trace.fresh(leaf.shape) for _, leaf in leaves]
    others = [trace.fixed(var.aval.shape) for var in closed.jaxpr.invars[len(leaves) :]]
    is_computed = [False] * len(leaves) + [True] * len(others)
    for result in trace.follow(closed.jaxpr, closed.consts, [*axes, *others], is_computed):
        trace.fix(result)
    members: dict[int, list[Axis]] = {}
    for (path, leaf), nodes in zip(leaves, axes, strict=True):
        for number, node in enumerate(nodes):
            factors = [] if node is None else trace.factors(node, leaf.shape[number])
            sizes = tuple(size for size, _ in factors)
            for factor, (_, root) in enumerate(factors):
                if root != FIXED:
                    name = path_name(path)
                    read = dict(enumerate(reads.get(name, ()))).get(number, 0)
                    members.setdefault(root, []).append(Axis(name, number, sizes, factor, reads=read))
    members = _without_nested(members)
    named = {root: _group(trace.marks.get(root, set()), axes) for root, axes in members.items()}
    named = {root: group for root, group in named.items() if group is not None}
    products = []
    for product in trace.products:
        roots = [root for node in product.axes if node is not None for _, root in trace.factors(node, 0)]
        products.append((product.flops, tuple(named[root].name for root in roots if root in named)))
    return Units({group.name: group for group in named.values()}, tuple(products))


def _record_inputs(
    reads: dict[str, tuple[int, ...]],
    call: Callable[..., Any],
    args: Any,
    kwargs: Any,
    context: nn.module.InterceptorContext,
) -> Any:
    """Intercepts Linen methods: records the axes of a layer's input that the first axes of its kernel read."""
    layer = context.module
    if isinstance(layer, LAYERS) and context.method_name == "__call__" and layer.has_variable("params", "kernel"):
        shape = layer.variables["params"]["kernel"].shape
        if isinstance(layer, nn.Conv):
            is_dense = layer.feature_group_count == 1
            axes = (*[0] * (len(shape) - 2), -1) if is_dense else ()
        else:
            axes = tuple(np.atleast_1d(getattr(layer, "axis", -1)).tolist())
            axes = tuple(axis - args[0].ndim if axis >= 0 else axis for axis in axes)
        reads["/".join(("params", *layer.path, "kernel"))] = axes
    return call(*args, **kwargs)


def _without_nested(members: dict[int, list[Axis]]) -> dict[int, list[Axis]]:
    """Drops groups that share an axis with one of more arrays, such as the queries of each head of keys."""
    largest: dict[tuple[str, int], tuple[int, int, int]] = {}
    for root, axes in members.items():
        for axis in axes:
            place = (axis.array, axis.axis)
            largest[place] = max(largest.get(place, (0, 0, 0)), (len(axes), axis.factor, root))
    return {
        root: axes for root, axes in members.items() if all(largest[axis.array, axis.axis][-1] == root for axis in axes)
    }


def _group(marks: set[str], axes: list[Axis]) -> Group | None:
    """Returns a group with its kind, or `None` for axes without params."""
    axes = sorted(axes, key=lambda axis: (not axis.array.startswith("params/"), not axis.array.endswith("/kernel")))
    kinds = {STREAM: "width", HEADS: "heads", HEAD_WIDTH: "head_width", FILTERS: "filters"}
    kind = next((kind for mark, kind in kinds.items() if mark in marks), "hidden")
    if not axes[0].array.startswith("params/"):
        return None
    first = axes[0]
    name = f"{first.array.removeprefix('params/')}:{first.axis}"
    return Group(name, kind, first.sizes[first.factor], tuple(axes))


def take(arrays: Arrays, units: Units, indices: Mapping[str, Int[Array, " units"]]) -> dict[str, Array]:
    """Returns smaller arrays: those of the kept units of each group, in the order of the indices."""
    arrays = dict(arrays)
    for name, index in indices.items():
        for axis in units.groups[name].axes:
            arrays[axis.array] = axis.take(arrays[axis.array], index)
    return arrays


def mask(arrays: Arrays, units: Units, indices: Mapping[str, Int[Array, " units"]]) -> dict[str, Array]:
    """Returns arrays of the same shapes, with zeros for the units that are not kept."""
    arrays = dict(arrays)
    for name, index in indices.items():
        group = units.groups[name]
        keeps = np.zeros(group.size, np.float32)
        keeps[np.asarray(index)] = 1
        for axis in group.axes:
            x = arrays[axis.array]
            shape = [size if factor == axis.factor else 1 for factor, size in enumerate(axis.sizes)]
            along = np.broadcast_to(keeps.reshape(shape), axis.sizes).reshape(-1)
            arrays[axis.array] = x * along.reshape(*[1] * axis.axis, -1, *[1] * (x.ndim - axis.axis - 1))
    return arrays
