"""A multi-layer perceptron."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output


class MLP(nn.Module):
    """Dense layers with ReLU between; the input is flattened.

    Taps: `hidden1` .. `hiddenN`, `[batch, widths[i]]` after the ReLU; `pooled`, the last of them (the flattened
    input where there is none).
    """

    classes: int
    widths: tuple[int, ...] = (512, 512)
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        taps = {}
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        for number, width in enumerate(self.widths, 1):
            x = nn.Dense(width, dtype=self.dtype, name=f"hidden{number}")(x)
            x = taps[f"hidden{number}"] = nn.relu(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        taps["pooled"] = x
        return Output(nn.Dense(self.classes, dtype=self.dtype, name="classifier")(x), taps)
