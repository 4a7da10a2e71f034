"""A small convolutional network."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output


class TwoLayer(nn.Module):
    """Two strided convolutions and a linear head on their mean.

    Taps: `features` `[batch, height / 4, width / 4, width]`, `pooled` `[batch, width]`.
    """

    width: int = 16
    classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> Output:
        for _ in range(2):
            x = nn.relu(nn.Conv(self.width, (3, 3), strides=2, dtype=self.dtype)(x))
        pooled = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        return Output(nn.Dense(self.classes, name="head")(pooled), {"features": x, "pooled": pooled})
