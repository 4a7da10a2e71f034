"""Weights in fewer bits, for inference: bfloat16, or int8 with int8 activations.

    int8        s_w = max |w| / 127 for each output channel      s_x = max |x| / 127 for each example, or row
                y = s_x s_w (round(x / s_x) * round(w / s_w))    the product summed in int32

Symmetric, per channel, with activations measured as they come ("dynamic"): Krishnamoorthi, "Quantizing deep
convolutional networks for efficient inference", 2018, https://arxiv.org/abs/1806.08342, sections 2.2 and 3.1. A scale
for each example of a convolution, and each row of a dense layer, makes the output of one independent of the others.
The layer `head`, which outputs the logits, stays exact; so do norms, biases and embeddings.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.compress.fake_quantize import fit_grid, integer_limits, to_integers
from jaxdistill.compress.layer_graph import LayerGraph, Path
from jaxdistill.compress.layer_inputs import example_axes, is_call, num_summed
from jaxdistill.core import Variables
from jaxdistill.runtime import topology

SCALE = "kernel_scale"
"""Name of the scale of a kernel in int8, for each output channel."""


def bfloat16(variables: Variables, graph: LayerGraph) -> dict[str, Any]:
    """Returns variables in which layers that compute in bfloat16 have their kernels in it; all else is unchanged."""
    paths = [path for path, (layer, _) in graph.layers.items() if layer.dtype == jnp.bfloat16]
    return _replace_layers(
        variables, paths, lambda arrays, _: arrays | {"kernel": arrays["kernel"].astype(jnp.bfloat16)}
    )


def int8(variables: Variables, graph: LayerGraph) -> dict[str, Any]:
    """Returns variables with kernels in int8 and their scales, for a module applied under `apply_quantized`."""

    def quantize(arrays: dict[str, Any], path: Path) -> dict[str, Any]:
        layer, ndim = graph.layers[path]
        kernel = arrays["kernel"].astype(jnp.float32)
        stacked = kernel.ndim - ndim  # of a scanned layer
        count = ndim - 1 if isinstance(layer, nn.Conv) else num_summed(layer)
        axes = tuple(range(stacked, stacked + count))
        whole, scale = _round(kernel, axes)
        return arrays | {"kernel": whole.astype(jnp.int8), SCALE: jnp.squeeze(scale, axes)}

    paths = [path for path, (layer, _) in graph.layers.items() if _is_quantizable(path, layer)]
    return _replace_layers(variables, paths, quantize)


def is_quantized(variables: Variables) -> bool:
    """Whether a kernel of the variables is in int8."""
    paths = jax.tree_util.tree_leaves_with_path(variables.get("params", {}))
    return any(getattr(path[-1], "key", "") == SCALE for path, _ in paths)


def _replace_layers(
    variables: Variables, paths: list[Path], replace: Callable[[dict[str, Any], Path], dict[str, Any]]
) -> dict[str, Any]:
    """Returns variables with the params of some layers replaced."""

    def walk(tree: dict[str, Any], path: Path) -> dict[str, Any]:
        if path in paths and "kernel" in tree:
            return replace(dict(tree), path)
        return {name: walk(x, (*path, name)) if isinstance(x, dict) else x for name, x in tree.items()}

    return dict(variables) | {"params": walk(variables["params"], ())}


def _is_quantizable(path: Path, layer: nn.Module) -> bool:
    if isinstance(layer, nn.DenseGeneral):
        axes = sorted(np.atleast_1d(layer.axis).tolist())
        return path[-1] != "head" and not layer.batch_dims and axes == [*range(-len(axes), 0)]
    return path[-1] != "head"


def apply_quantized(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    """Intercepts Linen methods: a layer whose kernel is in int8 computes with it."""
    layer = context.module
    if not is_call(args, context) or not layer.has_variable("params", SCALE):
        return call(*args, **kwargs)
    params, x = layer.variables["params"], args[0].astype(jnp.float32)
    y = _product(layer)(x, params["kernel"], params[SCALE])
    if "bias" in params:
        bias = params["bias"]
        y = y + bias.reshape(*[1] * (y.ndim - bias.ndim), *bias.shape)
    return y.astype(layer.dtype or args[0].dtype)


def _product(layer: nn.Module) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """Returns the layer without its bias, `(x, kernel, scale) -> y`, with the derivative of the unrounded layer.

    Bengio, Leonard & Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013,
    https://arxiv.org/abs/1308.3432 ("straight-through"): for derivatives by the input, and for saliency maps.
    """
    plain = layer.clone(parent=None, use_bias=False, dtype=jnp.float32)

    @jax.custom_jvp
    def product(x: jax.Array, kernel: jax.Array, scale: jax.Array) -> jax.Array:
        multiply = _conv if isinstance(layer, nn.Conv) else _dense
        return multiply(layer, kernel, scale, x)

    @product.defjvp
    def derivative(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        x, kernel, scale = primals
        weights = kernel * scale.reshape(*[1] * (kernel.ndim - scale.ndim), *scale.shape)
        return product(x, kernel, scale), plain.apply({"params": {"kernel": weights}}, tangents[0])

    return product


def _round(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Returns whole numbers of at most 127, still floats, and their scale, which keeps the dimensions."""
    grid = fit_grid(x, axes, 8)
    return to_integers(x, grid, integer_limits(8)), grid.scale


def _dense(layer: nn.Module, kernel: jax.Array, scale: jax.Array, x: jax.Array) -> jax.Array:
    axes = example_axes(layer, x.ndim)
    count = len(axes)
    whole, x_scale = _round(x, axes)
    product = jax.lax.dot_general(
        whole.astype(jnp.int8), kernel, ((axes, tuple(range(count))), ((), ())), preferred_element_type=jnp.int32
    )
    x_scale = x_scale.reshape(*x_scale.shape[: x.ndim - count], *[1] * (kernel.ndim - count))
    return product.astype(jnp.float32) * x_scale * scale.reshape(*[1] * (x.ndim - count), *scale.shape)


def _conv(layer: nn.Module, kernel: jax.Array, scale: jax.Array, x: jax.Array) -> jax.Array:
    whole, x_scale = _round(x, example_axes(layer, x.ndim))
    # XLA's CPU has no fast convolution of int8; float32 holds the same whole numbers, exact up to 2^24.
    kind = jnp.float32 if topology.backend() == "cpu" else jnp.int8
    exact = jnp.float32 if kind == jnp.float32 else jnp.int32

    def convolve(inputs: jax.Array, weights: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
        options |= {"preferred_element_type": exact, "precision": None}
        return jax.lax.conv_general_dilated(inputs.astype(kind), weights.astype(kind), strides, padding, **options)

    plain = layer.clone(parent=None, conv_general_dilated=convolve, use_bias=False, dtype=jnp.float32)
    product = plain.apply({"params": {"kernel": kernel}}, whole)
    return product.astype(jnp.float32) * x_scale * scale.reshape(*[1] * (x.ndim - 1), -1)
