"""Permutations of the units of a network that leave its function unchanged, found by tracing it.

A permutation acts on axes of arrays: that of a layer's outputs and that of the next one's inputs are one and the same.
`axis_trace` finds the axes that belong together; the result is always a symmetry, for any model made of any modules,
though it may miss some.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxdistill.core import Variables, path_name
from jaxdistill.errors import UserError
from jaxdistill.merging.axis_trace import FIXED, AxisTrace

Spec = Mapping[str, tuple[tuple[str, int], ...]]
"""permutation -> the axes that it permutes together, `(name of the array, axis)`; it is named after the first of the
params, as `params/dense1/bias:0`."""


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
    trace = AxisTrace()
    array_axes = [trace.fresh(leaf.shape) for _, leaf in leaves]
    input_axes = [trace.fixed(var.aval.shape) for var in closed.jaxpr.invars[len(leaves) :]]
    is_computed = [False] * len(leaves) + [True] * len(input_axes)
    for axes in trace.follow(closed.jaxpr, closed.consts, [*array_axes, *input_axes], is_computed):
        trace.fix(axes)
    groups: dict[int, list[tuple[str, int]]] = {}
    divided: set[int] = set()
    for (path, leaf), axes in zip(leaves, array_axes, strict=True):
        for axis, node in enumerate(axes):
            if node is not None and trace.root(node) != FIXED:
                groups.setdefault(trace.root(node), []).append((path_name(path), axis))
                if trace.root(node) in trace.parts:
                    divided.update(root for _, root in trace.factors(node, leaf.shape[axis]))
                    divided.add(trace.root(node))
    groups = {root: axes for root, axes in groups.items() if root not in divided}
    params_first = (sorted(axes, key=lambda axis: not axis[0].startswith("params/")) for axes in groups.values())
    spec = {f"{axes[0][0]}:{axes[0][1]}": tuple(axes) for axes in params_first if axes[0][0].startswith("params/")}
    if not spec:
        raise UserError(
            "a network to align must have units whose order is free, got one with no units of that kind. Networks with"
            " hidden layers can be aligned: mlp, cifar_resnet, wide_resnet, resnet"
        )
    return spec
