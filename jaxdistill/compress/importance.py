"""Importance of the units of a network: by their weights, their activations, or the loss without them.

magnitude    the L2 norm of the unit's weights in every kernel (Fang et al., "DepGraph", CVPR 2023,
             https://arxiv.org/abs/2301.12900, section 3.3, without its normalisation)
activation   mean |a| over examples and positions (Hu et al., "Network Trimming", 2016,
             https://arxiv.org/abs/1607.03250, counts those that are not 0 instead)
taylor       mean over batches of (sum w dL/dw)^2 over the weights that read the unit, which is (dL/dg)^2 of a gate
             g = 1 on it (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019,
             https://arxiv.org/abs/1906.10771, equation 8)
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.compress.unit_groups import Arrays, Axis, Group
from jaxdistill.compress.view import Calibration
from jaxdistill.core import Batch, Variables
from jaxdistill.errors import UserError

RULES = ("magnitude", "activation", "taylor")
Scores = Mapping[str, Float[Array, " units"]]
"""group -> importance of each unit."""


def magnitude(arrays: Arrays, group: Group) -> Float[Array, " units"]:
    """Returns the L2 norm of each unit's weights in all params of two or more dimensions."""
    kernels = [axis for axis in group.axes if axis.array.startswith("params/") and arrays[axis.array].ndim > 1]
    squares = [jnp.sum(axis.units_first(arrays[axis.array]) ** 2, 1) for axis in kernels]
    return jnp.sqrt(jnp.sum(jnp.stack(squares), 0))


def check_readers(group: Group) -> None:
    """Raises `UserError` for a group that no layer with a kernel reads."""
    if not any(axis.reads for axis in group.axes):
        raise UserError(
            f"importance must be 'magnitude' for {group.name}, which no dense layer or convolution reads. Set it, or"
            " leave the group out by match"
        )


def activation(calibration: Calibration, variables: Variables, groups: Mapping[str, Group]) -> Scores:
    """Returns the mean absolute activation of each unit where layers read it, padding included."""
    readers: dict[str, list[tuple[str, Axis]]] = {}
    for name, group in groups.items():
        for axis in group.axes:
            if axis.reads:
                readers.setdefault(axis.array, []).append((name, axis))

    def total(gates: Scores, variables: Variables, batch: Batch) -> Array:
        def observe(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            if context.method_name == "__call__":
                for name, axis in readers.get("/".join(("params", *context.module.path, "kernel")), ()):
                    args = (_observe(args[0], gates[name], axis), *args[1:])
            return call(*args, **kwargs)

        logits = calibration.predict(variables, batch, observe).logits
        return jnp.sum(jnp.stack([jnp.sum(x) for x in jax.tree.leaves(logits)]))

    # The gradient by the gates carries the means out of rematerialised and scanned layers.
    measure = jax.jit(jax.grad(total))
    gates = {name: jnp.ones(group.size) for name, group in groups.items()}
    return _mean(calibration, lambda batch: measure(gates, variables, batch))


def taylor(calibration: Calibration, variables: Variables, groups: Mapping[str, Group]) -> Scores:
    """Returns the mean over batches of the squared first-order change of the loss without each unit."""

    @jax.jit
    def measure(variables: Variables, batch: Batch) -> Scores:
        def loss(params: Any) -> Array:
            return calibration.loss({**variables, "params": params}, batch)

        params = variables["params"]
        products = jax.tree.map(jnp.multiply, params, jax.grad(loss)(params))
        flat = {"/".join(("params", *(part.key for part in path))): x for path, x in _leaves(products)}
        return {
            name: sum((_sum_by_unit(flat, axis) for axis in group.axes if axis.reads), jnp.zeros(group.size)) ** 2
            for name, group in groups.items()
        }

    return _mean(calibration, lambda batch: measure(variables, batch))


def _sum_by_unit(arrays: Arrays, axis: Axis) -> Float[Array, " units"]:
    return jnp.sum(axis.units_first(arrays[axis.array]), 1)


def _leaves(tree: Any) -> list[tuple[Any, Array]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _mean(calibration: Calibration, measure: Callable[[Batch], Scores]) -> Scores:
    """Returns the mean over the batches of a calibration.

    Raises:
        UserError: if it has none.
    """
    total, count = None, 0
    for batch in calibration.batches():
        scores = measure(batch)
        total = scores if total is None else jax.tree.map(jnp.add, total, scores)
        count += 1
    if total is None:
        raise UserError("calibration must have one batch or more, got none. Use a split with examples")
    return jax.tree.map(lambda x: x / count, total)


def _observe(x: Array, gate: Float[Array, " units"], axis: Axis) -> Array:
    """Returns `x`; the derivative by the gate is the mean of its absolute values for each unit."""

    @jax.custom_vjp
    def observe(x: Array, gate: Array) -> Array:
        return x

    def forward(x: Array, gate: Array) -> tuple[Array, Array]:
        return x, jnp.mean(jnp.abs(axis.units_first(x.astype(jnp.float32), axis.reads)), 1)

    def backward(means: Array, change: Array) -> tuple[Array, Array]:
        return change, means

    observe.defvjp(forward, backward)
    return observe(x, gate)
