"""Weights of an export: arrays by flat name, `params/block0/norm/scale`, those of kernels in few bits if it is set."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxdistill.compress import channels
from jaxdistill.compress.packing import StoredIntegers, round_symmetric
from jaxdistill.compress.quantize import Quantize, integers
from jaxdistill.compress.views import Views
from jaxdistill.core import Variables

Weights = Mapping[str, np.ndarray | StoredIntegers]
"""Arrays by flat name."""

BITS = (0, 8, 4)
"""Bits of kernels and embeddings in a file; 0 for the float32 of training."""

EXACT = ("head", "compress")
"""Layers whose arrays stay as they are: that of the logits, and what views have added."""


def make_weights(variables: Variables, bits: int, trained: Mapping[str, StoredIntegers] | None = None) -> Weights:
    """Returns the arrays of a file.

    Args:
        variables: on the host.
        bits: one of `BITS`.
        trained: the integers of a network whose views quantize, by flat name; they are stored in their own bits, and
            all other arrays stay exact.
    """
    # A mask times a negative weight is -0.0, which would count as a number: the sum with 0 is 0.
    flat = {name: np.asarray(x) + np.zeros((), x.dtype) for name, x in flatten_dict(dict(variables), sep="/").items()}
    if not bits:
        return flat
    if trained:
        return flat | dict(trained)
    return {name: _rounded(name, x, bits) if _is_rounded(name, x) else x for name, x in flat.items()}


def trained_integers(views: Views, variables: Variables) -> dict[str, StoredIntegers]:
    """Returns the integers of a network whose views quantize, by flat name; those that the file then holds."""
    whole: dict[str, StoredIntegers] = {}
    for view_name, view in views.entries:
        if not isinstance(view, Quantize):
            continue
        params, extra = views.final_inputs(view_name, variables)
        if not view.has_started(extra):
            continue
        for name in view.selected(params):
            q, scale, zero = map(np.asarray, integers(name, params[name], view, extra))
            whole[f"params/{name}"] = StoredIntegers(q, scale, view.bits, zero=zero if zero.any() else None)
    return whole


def _is_rounded(name: str, array: np.ndarray) -> bool:
    *layers, last = name.split("/")
    is_kernel = layers[0] == "params" and last.startswith(("kernel", "embedding")) and array.ndim > 1
    return is_kernel and not any(layer in EXACT for layer in layers)


def _rounded(name: str, array: np.ndarray, bits: int) -> StoredIntegers:
    """Returns integers with a scale for each output of a kernel, in each layer, and each row of an embedding."""
    return round_symmetric(array, bits, channels.summed_axes(name, array.shape))


def variables_of(weights: Weights) -> dict[str, Any]:
    """Returns the float32 variables that the weights stand for, on the host."""
    return unflatten_dict(
        {name: x.dequantize() if isinstance(x, StoredIntegers) else x for name, x in weights.items()}, sep="/"
    )


def traced_variables(weights: Weights) -> dict[str, Any]:
    """Returns the same as constants of a program that is being traced, integers as integers."""
    return unflatten_dict(
        {name: x.traced() if isinstance(x, StoredIntegers) else jnp.asarray(x) for name, x in weights.items()}, sep="/"
    )
