"""Axes of arrays that belong together, found by tracing a program.

Tracing follows every axis through the program: addition ties the axes of its two sides (so a residual stream is one
class over all the blocks whose shortcut is the identity), a convolution ties its kernel's input axis to the channels of
what it reads, normalisation ties scale, bias and statistics to the channels. An axis that is divided, such as that of
the queries' heads among the heads of their keys, or joined, such as height, width and channels before a dense layer, is
a product of factors, which are followed on their own. Axes tied to the network's inputs (pixels, channels, batch) or
outputs (classes), and those that meet an operation not listed here, are fixed.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core as jex

Node = int | None
Axes = list[Node]
Shape = tuple[int, ...]
Params = Mapping[str, Any]
"""Parameters of an equation of a program."""

FIXED = 0
ALIKE = {  # element by element: axes are tied place by place
    *("abs", "add", "add_any", "and", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos", "copy_p", "div"),
    *("eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le"),
    *("log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow"),
    *("reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "stop_gradient"),
    *("sub", "tan", "tanh", "xor", "optimization_barrier", "sharding_constraint", "name"),
}
REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"}
SUMS = {"add", "add_any"}

STREAM, HEADS, HEAD_WIDTH, FILTERS = "stream", "heads", "head_width", "filters"
"""Marks of classes: sums of two computed values and rows of tables; batch axes of the product of two computed values,
and its other axes; outputs of convolutions."""


@dataclasses.dataclass(frozen=True)
class Product:
    """A matrix product or a convolution.

    Attributes:
        flops: number of multiplications and additions.
        axes: the axes whose sizes it is proportional to.
    """

    flops: float
    axes: tuple[Node, ...]


class AxisTrace:
    """Classes of axes that are tied, by union-find; an axis of length 1 is None, since its order is fixed.

    Attributes:
        parts: class -> sizes and classes of the factors of its axes, the slowest first.
        marks: class -> its marks.
        products: all matrix products and convolutions.
    """

    def __init__(self) -> None:
        self.parents = [FIXED]
        self.parts: dict[int, tuple[tuple[int, int], ...]] = {}
        self.marks: dict[int, set[str]] = {}
        self.products: list[Product] = []
        self._is_computed: list[bool] = []

    def root(self, node: int) -> int:
        """Returns the class of a node."""
        while self.parents[node] != node:
            self.parents[node] = self.parents[self.parents[node]]
            node = self.parents[node]
        return node

    def fresh(self, shape: Shape) -> Axes:
        """Returns axes of which none is tied yet."""
        return [None if size == 1 else self._new() for size in shape]

    def _new(self) -> int:
        self.parents.append(len(self.parents))
        return self.parents[-1]

    def fixed(self, shape: Shape) -> Axes:
        """Returns axes that are fixed."""
        return [None if size == 1 else FIXED for size in shape]

    def factors(self, node: int, size: int) -> list[tuple[int, int]]:
        """Returns the sizes and classes whose product an axis is, the slowest first."""
        root = self.root(node)
        if root not in self.parts:
            return [(size, root)]
        return [factor for part_size, part in self.parts[root] for factor in self.factors(part, part_size)]

    def tie(self, *nodes: Node) -> Node:
        """Ties axes to each other; returns the class of all."""
        roots = sorted({self.root(node) for node in nodes if node is not None})
        for root in roots[1:]:
            self.parents[root] = roots[0]
            self.marks.setdefault(roots[0], set()).update(self.marks.pop(root, ()))
        divided = [self.parts.pop(root) for root in roots if root in self.parts]
        if divided and roots[0] == FIXED:
            self.fix([part for parts in divided for _, part in parts])
        elif len({tuple(size for size, _ in parts) for parts in divided}) > 1:
            self.fix([roots[0], *(part for parts in divided for _, part in parts)])
        elif divided:
            self.parts[roots[0]] = divided[0]
            self.mark(self.marks.pop(roots[0], set()), roots[0])
            for factors in zip(*divided, strict=True):
                self.tie(*(part for _, part in factors))
        return self.root(roots[0]) if roots else None

    def fix(self, axes: Axes) -> None:
        """Ties axes to those that are fixed."""
        for node in axes:
            self.tie(FIXED, node)

    def mark(self, marks: set[str], *nodes: Node) -> None:
        """Marks the classes of axes, or of their factors."""
        for node in nodes:
            for _, root in [] if node is None else self.factors(node, 0):
                self.marks.setdefault(root, set()).update(marks)

    def divide(self, node: int, sizes: Shape) -> Axes:
        """Returns the factors of an axis, the slowest first."""
        root = self.root(node)
        if root == FIXED:
            return self.fixed(sizes)
        if root not in self.parts:
            self.parts[root] = tuple((size, self._new()) for size in sizes)
            self.mark(self.marks.pop(root, set()), root)
        if tuple(size for size, _ in self.parts[root]) != sizes:
            self.fix([root])
            return self.fixed(sizes)
        return [part for _, part in self.parts[root]]

    def join(self, nodes: Axes, sizes: Shape) -> int:
        """Returns the axis whose factors are these, the slowest first."""
        parts = tuple((size, self.root(node or FIXED)) for node, size in zip(nodes, sizes, strict=True))
        if all(part == FIXED for _, part in parts):
            return FIXED
        node = self._new()
        self.parts[node] = parts
        return node

    def follow(
        self, jaxpr: jex.Jaxpr, consts: Sequence[Any], inputs: Sequence[Axes], is_computed: Sequence[bool]
    ) -> list[Axes]:
        """Returns the axes of a program's results from those of its inputs.

        Args:
            jaxpr: the program.
            consts: its constants.
            inputs: axes of its inputs.
            is_computed: whether each of these depends on the network's inputs, and not on its params alone.
        """
        axes = dict(zip(jaxpr.invars, inputs, strict=True))
        axes |= {var: self.fixed(getattr(x, "shape", ())) for var, x in zip(jaxpr.constvars, consts, strict=True)}
        computed = {var for var, flag in zip(jaxpr.invars, is_computed, strict=True) if flag}

        def axes_of(atom: Any) -> Axes:
            return self.fixed(atom.aval.shape) if isinstance(atom, jex.Literal) else axes[atom]

        for equation in jaxpr.eqns:
            flags = [not isinstance(atom, jex.Literal) and atom in computed for atom in equation.invars]
            results = self._equation(equation, [axes_of(atom) for atom in equation.invars], flags)
            axes |= dict(zip(equation.outvars, results, strict=True))
            if any(flags):
                computed.update(equation.outvars)
        return [axes_of(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, inputs: list[Axes], flags: list[bool]) -> list[Axes]:
        name, params = equation.primitive.name, equation.params
        shapes = [atom.aval.shape for atom in equation.invars]
        outputs = [var.aval.shape for var in equation.outvars]
        inner = _inner(params, len(inputs)) if name in CALLS else None
        if inner is not None:
            return self.follow(inner.jaxpr, inner.consts, inputs, flags)
        if name == "optimization_barrier":
            return inputs
        if name in ALIKE:
            return [self._alike(name, [axes for axes in inputs if len(axes) == len(outputs[0])], flags)]
        if name in REDUCTIONS:
            return [[node for axis, node in enumerate(inputs[0]) if axis not in params["axes"]]]
        if name == "split":
            return self._split(params, inputs[0], shapes[0])
        self._is_computed = flags
        rule = getattr(self, f"_{name}", None)
        if rule is None and name.startswith("reduce_window"):
            rule = self._reduce_window
        axes = rule(params, inputs, shapes, outputs[0]) if rule else None
        if axes is not None:
            return [axes]
        for axes in inputs:
            self.fix(axes)
        return [self.fixed(shape) for shape in outputs]

    def _alike(self, name: str, inputs: list[Axes], flags: list[bool]) -> Axes:
        """Ties axes place by place; scalars are not among the inputs."""
        if name not in SUMS or not all(flags):
            return [self.tie(*nodes) for nodes in zip(*inputs, strict=True)]
        results = []
        for nodes in zip(*inputs, strict=True):
            are_apart = len({self.root(node) for node in nodes if node is not None}) > 1
            results.append(self.tie(*nodes))
            if are_apart:
                self.mark({STREAM}, results[-1])
        return results

    def _broadcast_in_dim(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        result = self.fresh(output)
        for axis, to in enumerate(params["broadcast_dimensions"]):
            if inputs[0][axis] is not None:
                result[to] = inputs[0][axis]
        return result

    def _transpose(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        return [inputs[0][axis] for axis in params["permutation"]]

    def _squeeze(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        return [node for axis, node in enumerate(inputs[0]) if axis not in params["dimensions"]]

    def _reshape(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        """Keeps the axes that stay whole, divides and joins others, and fixes those that are both."""
        result = self.fixed(output)
        for before, after in _segments(shapes[0], output):
            nodes = [inputs[0][axis] for axis in before]
            if len(before) == len(after) == 1:
                result[after[0]] = nodes[0]
            elif len(before) == 1 and nodes[0] is not None:
                for axis, node in zip(after, self.divide(nodes[0], tuple(output[i] for i in after)), strict=True):
                    result[axis] = node
            elif len(after) == 1:
                result[after[0]] = self.join(nodes, tuple(shapes[0][axis] for axis in before))
            else:
                self.fix(nodes)
        return result

    def _slice(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        return self._keep_whole(inputs[0], shapes[0], output)

    def _dynamic_slice(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        return self._keep_whole(inputs[0], shapes[0], output)

    def _keep_whole(self, axes: Axes, shape: Shape, output: Shape) -> Axes:
        """Keeps the axes that a part of an array has whole, and fixes the others."""
        self.fix([node for node, size, new in zip(axes, shape, output, strict=True) if size != new])
        return [None if new == 1 else node for node, new in zip(axes, output, strict=True)]

    def _split(self, params: Params, axes: Axes, shape: Shape) -> list[Axes]:
        """Divides the axis among parts of equal size, and fixes it for others."""
        axis, sizes = params["axis"], params["sizes"]
        part = None if shape[axis] == len(sizes) else FIXED
        if axes[axis] is not None and len({*sizes}) == 1 and 1 < len(sizes) < shape[axis]:
            number, part = self.divide(axes[axis], (len(sizes), sizes[0]))
            self.fix([number])
        elif len(sizes) > 1:
            self.fix([axes[axis]])
        return [[*axes[:axis], part, *axes[axis + 1 :]] for _ in sizes]

    def _concatenate(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        result = self.fixed(output)
        for axis, nodes in enumerate(zip(*inputs, strict=True)):
            if axis == params["dimension"]:
                self.fix([*nodes])
            else:
                result[axis] = self.tie(*nodes)
        return result

    def _gather(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        """Keeps the axes of a table's rows, and those of the indices by which rows are taken."""
        numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
        dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        rows = [axis for axis in range(len(shapes[0])) if axis not in dropped]
        if any(sizes[axis] != shapes[0][axis] for axis in rows):
            return None
        self.fix([inputs[0][axis] for axis in dropped])
        self.fix(inputs[1])
        result = self.fixed(output)
        for axis, to in zip(rows, numbers.offset_dims, strict=True):
            result[to] = inputs[0][axis]
            if not self._is_computed[0]:
                self.mark({STREAM}, result[to])
        return result

    def _dot_general(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        (left, right), (left_batch, right_batch) = params["dimension_numbers"]
        summed = [self.tie(inputs[0][a], inputs[1][b]) for a, b in zip(left, right, strict=True)]
        batch = [self.tie(inputs[0][a], inputs[1][b]) for a, b in zip(left_batch, right_batch, strict=True)]
        free = [
            [node for axis, node in enumerate(axes) if axis not in {*contracted, *batched}]
            for axes, contracted, batched in ((inputs[0], left, left_batch), (inputs[1], right, right_batch))
        ]
        if all(self._is_computed):
            self.mark({HEADS}, *batch)
            self.mark({HEAD_WIDTH}, *summed, *free[0], *free[1])
        flops = 2.0 * math.prod(output) * math.prod(shapes[0][axis] for axis in left)
        self.products.append(Product(flops, (*summed, *batch, *free[0], *free[1])))
        return [*batch, *free[0], *free[1]]

    def _conv_general_dilated(
        self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape
    ) -> Axes | None:
        numbers, groups = params["dimension_numbers"], params["feature_group_count"]
        x, kernel = ([axes[i] for i in spec] for axes, spec in zip(inputs, numbers[:2], strict=True))
        channels, filters = shapes[0][numbers[0][1]], shapes[1][numbers[1][0]]
        flops = 2.0 * math.prod(output) * math.prod(shapes[1][axis] for axis in numbers[1][1:])
        if params["batch_group_count"] != 1 or (groups != 1 and not channels == filters == groups):
            self.products.append(Product(flops, ()))
            return None
        # Depthwise (one filter for each channel), or dense.
        features = self.tie(x[1], kernel[0]) if groups != 1 else kernel[0]
        summed = self.tie(x[1], kernel[1]) if groups == 1 else None
        self.products.append(Product(flops, (features, summed)))
        self.mark({FILTERS}, features)
        self.fix([*x[2:], *kernel[2:]])
        result = self.fixed(output)
        result[numbers[2][0]], result[numbers[2][1]] = x[0], features
        return result

    def _reduce_window(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        if len(inputs) != 1:
            return None
        settings = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
        result = self.fixed(output)
        for axis, node in enumerate(inputs[0]):
            if all(params[name][axis] == 1 for name in settings) and tuple(params["padding"][axis]) == (0, 0):
                result[axis] = node
            else:
                self.fix([node])
        return result


CALLS = (
    "jit",
    "pjit",
    "remat",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
    "closed_call",
    "core_call",
)
"""Primitives that run a program once on their own inputs; loops run theirs on a part of them, or repeatedly."""


def _inner(params: Mapping[str, Any], inputs: int) -> Any:
    """Returns the program that an equation calls with its own inputs, as `jit`, `remat` and `custom_jvp` do."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        program = params.get(name)
        if isinstance(program, jex.Jaxpr):
            program = jex.ClosedJaxpr(program, ())
        if isinstance(program, jex.ClosedJaxpr) and len(program.jaxpr.invars) == inputs:
            return program
    return None


def _segments(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Returns the axes of two shapes of one size that a reshape turns into each other; those of length 1 are absent."""
    left = [axis for axis, size in enumerate(before) if size != 1]
    right = [axis for axis, size in enumerate(after) if size != 1]
    segments: list[tuple[list[int], list[int]]] = []
    while left and right:
        taken, given = [left.pop(0)], [right.pop(0)]
        sizes = [before[taken[0]], after[given[0]]]
        while sizes[0] != sizes[1]:
            smaller = 0 if sizes[0] < sizes[1] else 1
            axis = (left if smaller == 0 else right).pop(0)
            (taken if smaller == 0 else given).append(axis)
            sizes[smaller] *= (before if smaller == 0 else after)[axis]
        segments.append((taken, given))
    return segments
