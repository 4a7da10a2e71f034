"""Inputs of layers: their axes, and their range on calibration data."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import Array, Float

from jaxdistill.compress.fake_quantize import value_range
from jaxdistill.compress.layer_graph import LAYERS
from jaxdistill.compress.view import Arrays, Calibration
from jaxdistill.errors import UserError


class InputRange(NamedTuple):
    """Smallest value, largest value and mean magnitude of the inputs of a layer."""

    low: Float[Array, ""]
    high: Float[Array, ""]
    mean: Float[Array, ""]


def is_call(args: Sequence[Any], context: nn.module.InterceptorContext) -> bool:
    """Whether an intercepted method is the call of a layer with a kernel."""
    return bool(args) and context.method_name == "__call__" and isinstance(context.module, LAYERS)


def num_summed(layer: nn.Module) -> int:
    """Returns the number of last axes that a dense layer sums over."""
    return len(np.atleast_1d(layer.axis)) if isinstance(layer, nn.DenseGeneral) else 1


def example_axes(layer: nn.Module, ndim: int) -> tuple[int, ...]:
    """Returns the axes of an input that belong together: those of an example of a convolution, of a row otherwise."""
    return tuple(range(1, ndim)) if isinstance(layer, nn.Conv) else tuple(range(ndim - num_summed(layer), ndim))


def measure(
    calibration: Calibration, variables: Arrays, layers: Sequence[str], percentile: float
) -> dict[str, InputRange]:
    """Returns the range of each layer's inputs over all batches.

    Args:
        calibration: real data, and the network.
        variables: by flat name, with the collection in front.
        layers: by path, `block0/attention/query`.
        percentile: 100 for the smallest and largest value; else the mean over batches of that percentile of a batch.

    Returns:
        By layer; a layer that inference does not call has the range 0 to 0.

    Raises:
        UserError: if there is no batch.
    """
    rows: dict[str, list[tuple[float, ...]]] = {layer: [] for layer in layers}

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        name = "/".join(context.module.path)
        if is_call(args, context) and name in rows:
            low, high = value_range(args[0], tuple(range(args[0].ndim)), percentile)
            # A callback leaves a recomputed or scanned block, which a value may not.
            jax.debug.callback(
                functools.partial(_add, rows[name]), low.ravel()[0], high.ravel()[0], jnp.mean(jnp.abs(args[0]))
            )
        return call(*args, **kwargs)

    nested = unflatten_dict(dict(variables), sep="/")
    predict = jax.jit(lambda variables, batch: calibration.predict(variables, batch, record).logits)
    batches = 0
    for batch in calibration.batches():
        jax.block_until_ready(predict(nested, batch))
        batches += 1
    if not batches:
        raise UserError("batches must be at least 1 for ranges of inputs, got none. Choose a split with examples")
    jax.effects_barrier()
    return {layer: _summarize(rows[layer], percentile) for layer in layers}


def _add(rows: list[tuple[float, ...]], *row: Any) -> None:
    rows.append(tuple(map(float, row)))


def _summarize(rows: list[tuple[float, ...]], percentile: float) -> InputRange:
    low, high, mean = np.array(rows or [(0.0, 0.0, 0.0)], np.float32).T
    least, most = (low.min(), high.max()) if percentile >= 100 else (low.mean(), high.mean())
    return InputRange(jnp.float32(least), jnp.float32(most), jnp.float32(mean.mean()))
