"""A view: weights of one bit, the sign times the mean magnitude of an output channel.

    w' = sign(w) mean |w|        gradient by w: that by w' where |w| <= 1, else 0

Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks", ECCV 2016,
https://arxiv.org/abs/1603.05279, equation 6: the best scale of the signs. The gradient is that of Courbariaux, Bengio &
David, "BinaryConnect", NeurIPS 2015, https://arxiv.org/abs/1511.00363, which passes the sign unchanged; XNOR-Net
multiplies it by the scale and adds a term of its own. Weights that are exactly 0, as a mask makes them, stay 0, and the
mean is over the others.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.compress import channels
from jaxdistill.compress.fake_quantize import straight_through
from jaxdistill.compress.view import Arrays, Extra, Stored, View


@dataclasses.dataclass(frozen=True)
class Binary(View):
    """Two values, of opposite signs, for each output channel."""

    order: ClassVar[int] = 4

    def view(self, params: Arrays, extra: Extra) -> dict[str, Array]:
        return {**params, **{name: binary(params[name], name) for name in self.selected(params)}}

    def stored(self, forms: Mapping[str, Stored], params: Arrays, extra: Extra) -> dict[str, Stored]:
        """Returns forms of a bit for each weight, with the magnitudes in float32."""
        stored = dict(forms)
        for name in self.selected(params):
            x = params[name]
            count = x.size // math.prod(x.shape[axis] for axis in channels.summed_axes(name, x.shape))
            stored[name] = forms[name]._replace(bits=1, extra_bits=forms[name].extra_bits + 32 * count)
        return stored


def binary(w: Float[Array, "..."], name: str) -> Float[Array, "..."]:
    """Returns the signs of a kernel times the mean magnitude of each output channel."""
    axes = channels.summed_axes(name, w.shape)
    number = jnp.sum(w != 0, axes, keepdims=True)
    scale = jnp.sum(jnp.abs(w), axes, keepdims=True) / jnp.maximum(number, 1)
    return straight_through(w, jnp.sign(w) * scale, jnp.abs(w) <= 1)
