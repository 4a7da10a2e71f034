"""Weights in fewer bits, for networks that only speak: bfloat16, or int8 with int8 activations.

    int8        s_w = max |w| / 127 for each output channel      s_x = max |x| / 127 for each example, or row
                y = s_x s_w (round(x / s_x) * round(w / s_w))    the product summed in int32

Symmetric, per channel, with activations measured as they come ("dynamic"): Krishnamoorthi, "Quantizing deep
convolutional networks for efficient inference", 2018, https://arxiv.org/abs/1806.08342, sections 2.2 and 3.1. A scale
for each example of a convolution, and each row of a dense layer, makes what is said of one independent of the others.
The layer `head`, which says the logits, stays exact; so do norms, biases and embeddings.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.compress.layer_graph import Path, Wiring
from jaxdistill.core import Variables

SCALE = "kernel_scale"
"""What stands beside a kernel in int8: its scale for each output channel."""


def bfloat16(variables: Variables, wiring: Wiring) -> dict[str, Any]:
    """Returns variables with the kernels in bfloat16 of the layers that compute in it: nothing else changes."""
    narrow = [path for path, (layer, _) in wiring.layers.items() if layer.dtype == jnp.bfloat16]
    return _changed(variables, narrow, lambda own, _: own | {"kernel": own["kernel"].astype(jnp.bfloat16)})


def int8(variables: Variables, wiring: Wiring) -> dict[str, Any]:
    """Returns variables with kernels in int8 and their scales, for a module applied under `quantized`."""

    def quantize(own, path):
        layer, ndim = wiring.layers[path]
        kernel = own["kernel"].astype(jnp.float32)
        before = kernel.ndim - ndim  # a scanned layer's kernels are stacked
        axes = tuple(range(before, before + _summed(layer, ndim)))
        scale = jnp.max(jnp.abs(kernel), axes, keepdims=True) / 127
        whole = jnp.round(kernel / jnp.where(scale > 0, scale, 1.0)).astype(jnp.int8)
        return own | {"kernel": whole, SCALE: jnp.squeeze(scale, axes)}

    return _changed(variables, [path for path, (layer, _) in wiring.layers.items() if _able(path, layer)], quantize)


def _changed(variables: Variables, paths: list[Path], change) -> dict[str, Any]:
    def walk(tree, path):
        if path in paths and "kernel" in tree:
            return change(dict(tree), path)
        return {name: walk(x, (*path, name)) if isinstance(x, dict) else x for name, x in tree.items()}

    return dict(variables) | {"params": walk(variables["params"], ())}


def _able(path: Path, layer: nn.Module) -> bool:
    if isinstance(layer, nn.DenseGeneral):
        axes = sorted(np.atleast_1d(layer.axis).tolist())
        return path[-1] != "head" and not layer.batch_dims and axes == [*range(-len(axes), 0)]
    return path[-1] != "head"


def _summed(layer: nn.Module, ndim: int) -> int:
    """The number of a kernel's first dimensions that are summed over."""
    if isinstance(layer, nn.DenseGeneral):
        return len(np.atleast_1d(layer.axis))
    return ndim - 1


def quantized(call, args, kwargs, context):
    """An interceptor of Linen methods: a layer whose kernel is in int8 computes with it."""
    layer = context.module
    known = isinstance(layer, (nn.Conv, nn.Dense, nn.DenseGeneral)) and context.method_name == "__call__"
    if not known or not layer.has_variable("params", SCALE):
        return call(*args, **kwargs)
    own, x = layer.variables["params"], args[0].astype(jnp.float32)
    y = _product(layer)(x, own["kernel"], own[SCALE])
    y = y + own["bias"].reshape(*[1] * (y.ndim - own["bias"].ndim), *own["bias"].shape) if "bias" in own else y
    return y.astype(layer.dtype or args[0].dtype)


def _product(layer: nn.Module):
    """The layer without its bias, `(x, kernel, scale) -> y`; its derivative is that of the layer without rounding.

    Bengio, Leonard & Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013,
    https://arxiv.org/abs/1308.3432 ("straight-through"): for probes, and for maps of where a network looks.
    """
    plain = layer.clone(parent=None, use_bias=False, dtype=jnp.float32)

    @jax.custom_jvp
    def product(x, kernel, scale):
        return (_conv if isinstance(layer, nn.Conv) else _dense)(layer, kernel, scale, x)

    @product.defjvp
    def derivative(values, tangents):
        x, kernel, scale = values
        weights = kernel * scale.reshape(*[1] * (kernel.ndim - scale.ndim), *scale.shape)
        return product(x, kernel, scale), plain.apply({"params": {"kernel": weights}}, tangents[0])

    return product


def _whole(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Rounds to whole numbers of at most 127, still floats, and their scale, which keeps the dimensions."""
    scale = jnp.max(jnp.abs(x), axes, keepdims=True) / 127
    return jnp.round(x / jnp.where(scale > 0, scale, 1.0)), scale


def _dense(layer: nn.Module, kernel: jax.Array, scale: jax.Array, x: jax.Array) -> jax.Array:
    count = _summed(layer, kernel.ndim)
    axes = tuple(range(x.ndim - count, x.ndim))
    whole, own = _whole(x, axes)
    product = jax.lax.dot_general(
        whole.astype(jnp.int8), kernel, ((axes, tuple(range(count))), ((), ())), preferred_element_type=jnp.int32
    )
    own = own.reshape(*own.shape[: x.ndim - count], *[1] * (kernel.ndim - count))
    return product.astype(jnp.float32) * own * scale.reshape(*[1] * (x.ndim - count), *scale.shape)


def _conv(layer: nn.Module, kernel: jax.Array, scale: jax.Array, x: jax.Array) -> jax.Array:
    whole, own = _whole(x, tuple(range(1, x.ndim)))
    # XLA's CPU has no fast convolution of int8; float32 holds the same whole numbers, exact up to 2^24.
    kind = jnp.float32 if jax.default_backend() == "cpu" else jnp.int8
    exact = jnp.float32 if kind == jnp.float32 else jnp.int32

    def convolved(inputs, weights, strides, padding, **more):
        more |= {"preferred_element_type": exact, "precision": None}
        return jax.lax.conv_general_dilated(inputs.astype(kind), weights.astype(kind), strides, padding, **more)

    plain = layer.clone(parent=None, conv_general_dilated=convolved, use_bias=False, dtype=jnp.float32)
    product = plain.apply({"params": {"kernel": kernel}}, whole)
    return product.astype(jnp.float32) * own * scale.reshape(*[1] * (x.ndim - 1), -1)
