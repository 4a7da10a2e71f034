"""BatchNorm folded into the convolutions that feed it: the same function in inference, with a layer less to compute.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
https://arxiv.org/abs/1712.05877, section 3.2: with s = scale / sqrt(var + epsilon),

    norm(conv(x; W)) = conv(x; s W) + shift        shift = bias - s mean

Only a BatchNorm that alone reads the output of a convolution (or a dense layer) is folded: if a tap, a shortcut or
another layer reads it too, both stay as they are, so that every tap keeps its meaning. The input of a BatchNorm in a
pre-activation block is a sum, and stays. So does a BatchNorm of another axis than the last or of several, and one after
a layer with a kernel that is computed (weight normalisation) or used more than once.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.compress.layer_graph import LayerGraph, Path
from jaxdistill.core import Variables

SHIFT = "shift"
"""The only parameter of a folded BatchNorm."""


def fold(variables: Variables, graph: LayerGraph) -> dict[str, Any]:
    """Returns variables for a module applied under `apply_folded`: scaled kernels, and norms with a shift alone.

    Args:
        variables: `params` and `batch_stats` of a Linen module, float32.
        graph: of the module (`layer_graph.trace`).
    """
    params = jax.tree.map(lambda x: x, variables["params"])
    stats = jax.tree.map(lambda x: x, variables.get("batch_stats", {}))
    for layer, (norm, epsilon) in graph.pairs.items():
        arrays, norm_params, norm_stats = (
            _get(params, layer),
            _get(params, norm[:-1]).get(norm[-1], {}),
            _get(stats, norm),
        )
        if arrays["kernel"].ndim != graph.layers[layer][1]:
            continue  # a scanned layer's
        scale = norm_params.get("scale", 1.0) * jax.lax.rsqrt(norm_stats["var"] + epsilon)
        shift = norm_params.get("bias", 0.0) - norm_stats["mean"] * scale
        kernel = arrays["kernel"] * scale.reshape(*[1] * (arrays["kernel"].ndim - 1), -1)
        bias = {"bias": arrays["bias"] * scale} if "bias" in arrays else {}
        _put(params, layer, arrays | {"kernel": kernel} | bias)
        _put(params, norm, {SHIFT: shift})
        _drop(stats, norm)
    rest = {name: tree for name, tree in variables.items() if name not in ("params", "batch_stats")}
    return {"params": params} | ({"batch_stats": stats} if stats else {}) | rest


def apply_folded(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    """Intercepts Linen methods: a BatchNorm that has a shift alone adds it."""
    norm = context.module
    if (
        not isinstance(norm, nn.BatchNorm)
        or context.method_name != "__call__"
        or not norm.has_variable("params", SHIFT)
    ):
        return call(*args, **kwargs)
    x, shift = args[0], norm.get_variable("params", SHIFT)
    shift = shift.reshape(*[1] * (x.ndim - 1), -1)
    y = x.astype(jnp.promote_types(x.dtype, shift.dtype)) + shift
    return y if norm.dtype is None else y.astype(norm.dtype)


def _get(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    for name in path:
        tree = tree[name]
    return tree


def _put(tree: dict[str, Any], path: Path, value: Any) -> None:
    _get(tree, path[:-1])[path[-1]] = value


def _drop(tree: dict[str, Any], path: Path) -> None:
    """Removes a branch, and the branches that it leaves empty."""
    del _get(tree, path[:-1])[path[-1]]
    while len(path) > 1 and not _get(tree, path[:-1]):
        path = path[:-1]
        del _get(tree, path[:-1])[path[-1]]
