"""BatchNorm folded into the convolutions that feed it: the same function in inference, with a layer less to compute.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
https://arxiv.org/abs/1712.05877, section 3.2: with s = scale / sqrt(var + epsilon),

    norm(conv(x; W)) = conv(x; s W) + shift        shift = bias - s mean

Only a BatchNorm that alone reads what a convolution (or a dense layer) says is folded: where a tap, a shortcut or
another layer reads it too, both stay as they are, so that every tap keeps its meaning. What stands before a BatchNorm
in a pre-activation block is a sum, and stays.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.compress.layer_graph import Path, Wiring
from jaxdistill.core import Variables

SHIFT = "shift"
"""What is left of a folded BatchNorm: its only parameter."""


def fold(variables: Variables, wiring: Wiring) -> dict[str, Any]:
    """Returns variables that `folded` lets the module be applied with: kernels scaled, norms with a shift alone.

    Args:
        variables: `params` and `batch_stats` of a Linen module, float32.
        wiring: of the module (`wiring.trace`).
    """
    params = jax.tree.map(lambda x: x, variables["params"])
    stats = jax.tree.map(lambda x: x, variables.get("batch_stats", {}))
    for layer, (norm, epsilon) in wiring.pairs.items():
        own, of_norm, known = _at(params, layer), _at(params, norm[:-1]).get(norm[-1], {}), _at(stats, norm)
        if own["kernel"].ndim != wiring.layers[layer][1]:
            continue  # a scanned layer's
        scale = of_norm.get("scale", 1.0) * jax.lax.rsqrt(known["var"] + epsilon)
        shift = of_norm.get("bias", 0.0) - known["mean"] * scale
        kernel = own["kernel"] * scale.reshape(*[1] * (own["kernel"].ndim - 1), -1)
        bias = {"bias": own["bias"] * scale} if "bias" in own else {}
        _put(params, layer, own | {"kernel": kernel} | bias)
        _put(params, norm, {SHIFT: shift})
        _drop(stats, norm)
    rest = {name: tree for name, tree in variables.items() if name not in ("params", "batch_stats")}
    return {"params": params} | ({"batch_stats": stats} if stats else {}) | rest


def folded(call, args, kwargs, context):
    """An interceptor of Linen methods: a BatchNorm that has a shift alone adds it."""
    norm = context.module
    if (
        not isinstance(norm, nn.BatchNorm)
        or context.method_name != "__call__"
        or not norm.has_variable("params", SHIFT)
    ):
        return call(*args, **kwargs)
    x, shift = args[0], norm.get_variable("params", SHIFT)
    shift = shift.reshape(*[1] * (x.ndim - 1), -1)
    return (x.astype(jnp.promote_types(x.dtype, shift.dtype)) + shift).astype(norm.dtype or x.dtype)


def _at(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    for name in path:
        tree = tree[name]
    return tree


def _put(tree: dict[str, Any], path: Path, value: Any) -> None:
    _at(tree, path[:-1])[path[-1]] = value


def _drop(tree: dict[str, Any], path: Path) -> None:
    """Removes a branch, and the branches that it leaves empty."""
    del _at(tree, path[:-1])[path[-1]]
    while len(path) > 1 and not _at(tree, path[:-1]):
        path = path[:-1]
        del _at(tree, path[:-1])[path[-1]]
