"""Which units of a network may change places without changing what it computes, found by tracing it.

A permutation acts on axes of arrays: that of a layer's outputs and that of the next one's inputs are one and the same.
Tracing follows every axis through the program: addition ties the axes of its two sides (so a residual stream shares
one permutation over all the blocks whose shortcut is the identity), a convolution ties its kernel's input axis to the
channels of what it reads, normalisation ties scale, bias and statistics to the channels. Axes tied to the network's
inputs (pixels, channels, batch) or outputs (classes), and those that meet an operation not known here, stay as they
are: what is found is always a symmetry, for any model made of whatever modules, if not always every one that there is.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend import core as jex

from jaxdistill.core import Variables, path_name
from jaxdistill.errors import UserError

Spec = Mapping[str, tuple[tuple[str, int], ...]]
"""permutation -> the axes that it permutes together, `(name of the array, axis)`; it is named after the first of the
params, as `params/dense1/bias:0`."""

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
    """Finds the permutations that leave a network's function as it is.

    Entezari et al., "The Role of Permutation Invariance in Linear Mode Connectivity of Neural Networks", ICLR 2022,
    https://arxiv.org/abs/2110.06296; for the networks of Ainsworth et al., "Git Re-Basin", ICLR 2023,
    https://arxiv.org/abs/2209.04836, these are the ones that their code lists by hand.

    Args:
        apply: `(variables, inputs) -> logits`, in inference mode.
        variables: arrays or shapes, with the collection "params".
        inputs: arrays or shapes.

    Raises:
        UserError: where nothing of the network can be permuted.
    """
    closed = jax.make_jaxpr(apply)(variables, inputs)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    trace = _Trace()
    own = [trace.fresh(leaf.shape) for _, leaf in leaves]
    others = [trace.fixed(var.aval.shape) for var in closed.jaxpr.invars[len(leaves) :]]
    for axes in trace.follow(closed.jaxpr, closed.consts, [*own, *others]):
        trace.fix(axes)
    groups: dict[int, list[tuple[str, int]]] = {}
    for (path, _), axes in zip(leaves, own, strict=True):
        for axis, node in enumerate(axes):
            if node is not None and trace.root(node) != FIXED:
                groups.setdefault(trace.root(node), []).append((path_name(path), axis))
    params_first = (sorted(axes, key=lambda axis: not axis[0].startswith("params/")) for axes in groups.values())
    spec = {f"{axes[0][0]}:{axes[0][1]}": tuple(axes) for axes in params_first if axes[0][0].startswith("params/")}
    if not spec:
        raise UserError(
            "no units of this network can change places without changing what it computes; networks with hidden"
            " layers can be aligned: mlp, cifar_resnet, wide_resnet, resnet"
        )
    return spec


class _Trace:
    """Classes of axes that are tied, by union-find; an axis of length 1 is None, since nothing can move on it."""

    def __init__(self):
        self.parents = [FIXED]

    def root(self, node):
        while self.parents[node] != node:
            self.parents[node] = self.parents[self.parents[node]]
            node = self.parents[node]
        return node

    def fresh(self, shape):
        return [None if size == 1 else self._new() for size in shape]

    def _new(self):
        self.parents.append(len(self.parents))
        return self.parents[-1]

    def fixed(self, shape):
        return [None if size == 1 else FIXED for size in shape]

    def tie(self, *nodes):
        """Ties axes to each other; returns one of them."""
        roots = sorted({self.root(node) for node in nodes if node is not None})
        for root in roots[1:]:
            self.parents[root] = roots[0]
        return roots[0] if roots else None

    def fix(self, axes):
        for node in axes:
            self.tie(FIXED, node)

    def follow(self, jaxpr, consts, inputs):
        """Returns the axes of a program's results from those of its inputs."""
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= {var: self.fixed(getattr(x, "shape", ())) for var, x in zip(jaxpr.constvars, consts, strict=True)}

        def axes_of(atom):
            return self.fixed(atom.aval.shape) if isinstance(atom, jex.Literal) else known[atom]

        for equation in jaxpr.eqns:
            results = self._equation(equation, [axes_of(atom) for atom in equation.invars])
            known |= dict(zip(equation.outvars, results, strict=True))
        return [axes_of(atom) for atom in jaxpr.outvars]

    def _equation(self, equation, inputs):
        name, given = equation.primitive.name, equation.params
        shapes = [atom.aval.shape for atom in equation.invars]
        outputs = [var.aval.shape for var in equation.outvars]
        inner = _inner(given, len(inputs)) if name in CALLS else None
        if inner is not None:
            return self.follow(inner.jaxpr, inner.consts, inputs)
        if name == "optimization_barrier":
            return inputs
        if name in ALIKE:
            whole = [axes for axes in inputs if len(axes) == len(outputs[0])]  # the others are scalars
            return [[self.tie(*nodes) for nodes in zip(*whole, strict=True)]]
        if name in REDUCTIONS:
            return [[node for axis, node in enumerate(inputs[0]) if axis not in given["axes"]]]
        rule = getattr(self, f"_{name}", None)
        if rule is None and name.startswith("reduce_window"):
            rule = self._reduce_window
        found = rule(given, inputs, shapes, outputs[0]) if rule else None
        if found is not None:
            return [found]
        for axes in inputs:
            self.fix(axes)
        return [self.fixed(shape) for shape in outputs]

    def _broadcast_in_dim(self, given, inputs, shapes, output):
        result = self.fresh(output)
        for axis, to in enumerate(given["broadcast_dimensions"]):
            if inputs[0][axis] is not None:
                result[to] = inputs[0][axis]
        return result

    def _transpose(self, given, inputs, shapes, output):
        return [inputs[0][axis] for axis in given["permutation"]]

    def _squeeze(self, given, inputs, shapes, output):
        return [node for axis, node in enumerate(inputs[0]) if axis not in given["dimensions"]]

    def _reshape(self, given, inputs, shapes, output):
        """Keeps the axes that survive whole, and fixes those that are joined or divided."""
        result, shape = self.fixed(output), shapes[0]
        ends = [math.prod(shape[axis:]) for axis in range(len(shape))]
        there = {(size, math.prod(output[axis:])): axis for axis, size in enumerate(output) if size != 1}
        for axis, node in enumerate(inputs[0]):
            to = there.get((shape[axis], ends[axis]))
            if to is None:
                self.fix([node])
            else:
                result[to] = node
        return result

    def _dot_general(self, given, inputs, shapes, output):
        (left, right), (left_batch, right_batch) = given["dimension_numbers"]
        for a, b in zip(left, right, strict=True):
            self.tie(inputs[0][a], inputs[1][b])
        batch = [self.tie(inputs[0][a], inputs[1][b]) for a, b in zip(left_batch, right_batch, strict=True)]
        free = [
            [node for axis, node in enumerate(axes) if axis not in {*contracted, *batched}]
            for axes, contracted, batched in ((inputs[0], left, left_batch), (inputs[1], right, right_batch))
        ]
        return [*batch, *free[0], *free[1]]

    def _conv_general_dilated(self, given, inputs, shapes, output):
        numbers, groups = given["dimension_numbers"], given["feature_group_count"]
        x, kernel = ([axes[i] for i in spec] for axes, spec in zip(inputs, numbers[:2], strict=True))
        channels, filters = shapes[0][numbers[0][1]], shapes[1][numbers[1][0]]
        if given["batch_group_count"] != 1 or (groups != 1 and not channels == filters == groups):
            return None
        # Depthwise (one filter for each channel), or dense.
        made = self.tie(x[1], kernel[0]) if groups != 1 else kernel[0]
        if groups == 1:
            self.tie(x[1], kernel[1])
        self.fix([*x[2:], *kernel[2:]])
        result = self.fixed(output)
        result[numbers[2][0]], result[numbers[2][1]] = x[0], made
        return result

    def _reduce_window(self, given, inputs, shapes, output):
        if len(inputs) != 1:
            return None
        settings = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
        result = self.fixed(output)
        for axis, node in enumerate(inputs[0]):
            if all(given[name][axis] == 1 for name in settings) and tuple(given["padding"][axis]) == (0, 0):
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
"""Primitives that run a program once on their own inputs; loops run theirs on a part of them, or again and again."""


def _inner(given: Mapping[str, Any], inputs: int) -> Any:
    """The program that an equation calls with its own inputs, as `jit`, `remat` and `custom_jvp` do."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        program = given.get(name)
        if isinstance(program, jex.Jaxpr):
            program = jex.ClosedJaxpr(program, ())
        if isinstance(program, jex.ClosedJaxpr) and len(program.jaxpr.invars) == inputs:
            return program
    return None
