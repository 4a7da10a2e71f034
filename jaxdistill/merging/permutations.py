"""Permutations of the units of a network that leave its function unchanged, found by tracing it.

A permutation acts on axes of arrays: that of a layer's outputs and that of the next one's inputs are one and the same.
Tracing follows every axis through the program: addition ties the axes of its two sides (so a residual stream shares
one permutation over all the blocks whose shortcut is the identity), a convolution ties its kernel's input axis to the
channels of what it reads, normalisation ties scale, bias and statistics to the channels. Axes tied to the network's
inputs (pixels, channels, batch) or outputs (classes), and those that meet an operation not listed here, stay as they
are: the result is always a symmetry, for any model made of any modules, though it may miss some.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend import core as jex

from jaxdistill.core import Variables, path_name
from jaxdistill.errors import UserError

Spec = Mapping[str, tuple[tuple[str, int], ...]]
"""permutation -> the axes that it permutes together, `(name of the array, axis)`; it is named after the first of the
params, as `params/dense1/bias:0`."""

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
    *("sub", "tan", "tanh", "xor", "optimization_barrier"),
}
REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"}


def permutations(apply: Callable[[Variables, Any], jax.Array], variables: Variables, inputs: Any) -> Spec:
    """Finds the permutations that leave a network's function unchanged.

    Entezari et al., "The Role of Permutation Invariance in Linear Mode Connectivity of Neural Networks", ICLR 2022,
    https://arxiv.org/abs/2110.06296; for the networks of Ainsworth et al., "Git Re-Basin", ICLR 2023,
    https://arxiv.org/abs/2209.04836, these are the ones that their code lists by hand.

    Args:
        apply: `(variables, inputs) -> logits`, in inference mode.
        variables: arrays or shapes, with the collection "params".
        inputs: arrays or shapes.

    Raises:
        UserError: if no units of the network can be permuted.
    """
    closed = jax.make_jaxpr(apply)(variables, inputs)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    trace = _Trace()
    array_axes = [trace.fresh(leaf.shape) for _, leaf in leaves]
    input_axes = [trace.fixed(var.aval.shape) for var in closed.jaxpr.invars[len(leaves) :]]
    for axes in trace.follow(closed.jaxpr, closed.consts, [*array_axes, *input_axes]):
        trace.fix(axes)
    groups: dict[int, list[tuple[str, int]]] = {}
    for (path, _), axes in zip(leaves, array_axes, strict=True):
        for axis, node in enumerate(axes):
            if node is not None and trace.root(node) != FIXED:
                groups.setdefault(trace.root(node), []).append((path_name(path), axis))
    params_first = (sorted(axes, key=lambda axis: not axis[0].startswith("params/")) for axes in groups.values())
    spec = {f"{axes[0][0]}:{axes[0][1]}": tuple(axes) for axes in params_first if axes[0][0].startswith("params/")}
    if not spec:
        raise UserError(
            "a network to align must have units whose order is free, got one with no units of that kind. Networks with"
            " hidden layers can be aligned: mlp, cifar_resnet, wide_resnet, resnet"
        )
    return spec


class _Trace:
    """Classes of axes that are tied, by union-find; an axis of length 1 is None, since its order is fixed."""

    def __init__(self) -> None:
        self.parents = [FIXED]

    def root(self, node: int) -> int:
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
        """Returns axes that no permutation moves."""
        return [None if size == 1 else FIXED for size in shape]

    def tie(self, *nodes: Node) -> Node:
        """Ties axes to each other; returns the class of all."""
        roots = sorted({self.root(node) for node in nodes if node is not None})
        for root in roots[1:]:
            self.parents[root] = roots[0]
        return roots[0] if roots else None

    def fix(self, axes: Axes) -> None:
        """Ties axes to those that no permutation moves."""
        for node in axes:
            self.tie(FIXED, node)

    def follow(self, jaxpr: jex.Jaxpr, consts: Sequence[Any], inputs: Sequence[Axes]) -> list[Axes]:
        """Returns the axes of a program's results from those of its inputs."""
        axes = dict(zip(jaxpr.invars, inputs, strict=True))
        axes |= {var: self.fixed(getattr(x, "shape", ())) for var, x in zip(jaxpr.constvars, consts, strict=True)}

        def axes_of(atom: Any) -> Axes:
            return self.fixed(atom.aval.shape) if isinstance(atom, jex.Literal) else axes[atom]

        for equation in jaxpr.eqns:
            results = self._equation(equation, [axes_of(atom) for atom in equation.invars])
            axes |= dict(zip(equation.outvars, results, strict=True))
        return [axes_of(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, inputs: list[Axes]) -> list[Axes]:
        name, params = equation.primitive.name, equation.params
        shapes = [atom.aval.shape for atom in equation.invars]
        outputs = [var.aval.shape for var in equation.outvars]
        inner = _inner(params, len(inputs)) if name in CALLS else None
        if inner is not None:
            return self.follow(inner.jaxpr, inner.consts, inputs)
        if name == "optimization_barrier":
            return inputs
        if name in ALIKE:
            whole = [axes for axes in inputs if len(axes) == len(outputs[0])]  # the others are scalars
            return [[self.tie(*nodes) for nodes in zip(*whole, strict=True)]]
        if name in REDUCTIONS:
            return [[node for axis, node in enumerate(inputs[0]) if axis not in params["axes"]]]
        rule = getattr(self, f"_{name}", None)
        if rule is None and name.startswith("reduce_window"):
            rule = self._reduce_window
        axes = rule(params, inputs, shapes, outputs[0]) if rule else None
        if axes is not None:
            return [axes]
        for axes in inputs:
            self.fix(axes)
        return [self.fixed(shape) for shape in outputs]

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
        """Keeps the axes that stay whole, and fixes those that are joined or divided."""
        result, shape = self.fixed(output), shapes[0]
        ends = [math.prod(shape[axis:]) for axis in range(len(shape))]
        positions = {(size, math.prod(output[axis:])): axis for axis, size in enumerate(output) if size != 1}
        for axis, node in enumerate(inputs[0]):
            to = positions.get((shape[axis], ends[axis]))
            if to is None:
                self.fix([node])
            else:
                result[to] = node
        return result

    def _dot_general(self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape) -> Axes | None:
        (left, right), (left_batch, right_batch) = params["dimension_numbers"]
        for a, b in zip(left, right, strict=True):
            self.tie(inputs[0][a], inputs[1][b])
        batch = [self.tie(inputs[0][a], inputs[1][b]) for a, b in zip(left_batch, right_batch, strict=True)]
        free = [
            [node for axis, node in enumerate(axes) if axis not in {*contracted, *batched}]
            for axes, contracted, batched in ((inputs[0], left, left_batch), (inputs[1], right, right_batch))
        ]
        return [*batch, *free[0], *free[1]]

    def _conv_general_dilated(
        self, params: Params, inputs: list[Axes], shapes: list[Shape], output: Shape
    ) -> Axes | None:
        numbers, groups = params["dimension_numbers"], params["feature_group_count"]
        x, kernel = ([axes[i] for i in spec] for axes, spec in zip(inputs, numbers[:2], strict=True))
        channels, filters = shapes[0][numbers[0][1]], shapes[1][numbers[1][0]]
        if params["batch_group_count"] != 1 or (groups != 1 and not channels == filters == groups):
            return None
        # Depthwise (one filter for each channel), or dense.
        features = self.tie(x[1], kernel[0]) if groups != 1 else kernel[0]
        if groups == 1:
            self.tie(x[1], kernel[1])
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
