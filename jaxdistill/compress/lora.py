"""A view: adapters of low rank beside kernels that stay as they are (LoRA).

    W' = W + (alpha / r) A B        A [inputs, r], B [r, outputs], learned        B = 0 at the start, so that W' = W

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen, "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
https://arxiv.org/abs/2106.09685, section 4.1; the authors' code draws A uniformly from ±1 / √inputs (Kaiming's bound
with a = √5), as here. There x A B is computed beside x W, here x (W + A B): the values are the same, no layer changes,
and every other view can follow; what stands against it is one array of the kernel's size. Their dropout of an adapter's
input has no place in a view of weights.

The view alone freezes nothing: `train="compress/"` of the network leaves its other params as they are, without gradient
and without state of the optimizer. `finish` merges, so that an export is an ordinary network.

Elsewhere: PEFT has alpha = 8 by default; with `use_rslora` its factor is alpha / √r.
"""

import dataclasses
import math
import zlib
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.compress import channels
from jaxdistill.compress.view import Arrays, Extra, Shapes, View
from jaxdistill.config.parse import option
from jaxdistill.errors import UserError, check_least


@dataclasses.dataclass(frozen=True)
class LoRA(View):
    """Adds a learned product of rank `rank` to each kernel, and to each layer of a scanned stack."""

    rank: int = option(8, "rank of the adapters", least=1)
    alpha: float = option(16.0, "numerator of the factor alpha / rank", least=0)
    seed: int = option(0, "seed of the first factors", least=0)

    order: ClassVar[int] = 2

    def check(self, params: Shapes) -> None:
        super().check(params)
        check_least("rank", self.rank, 1)
        for name in self.selected(params):
            _, inputs, outputs = _sizes(name, params[name].shape)
            if self.rank > min(inputs, outputs):
                raise UserError(
                    f"rank must be at most {min(inputs, outputs)} for {name}, its smaller dimension, got {self.rank}."
                    " Leave it out by match"
                )

    def init(self, params: Arrays) -> Extra:
        learned: dict[str, Array] = {}
        for name in self.selected(params):
            layers, inputs, outputs = _sizes(name, params[name].shape)
            key = jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(name.encode()))
            bound = 1 / math.sqrt(inputs)
            learned[f"{name}_down"] = jax.random.uniform(key, (layers, inputs, self.rank), minval=-bound, maxval=bound)
            learned[f"{name}_up"] = jnp.zeros((layers, self.rank, outputs))
        return Extra(learned=learned)

    def view(self, params: Arrays, extra: Extra) -> dict[str, Array]:
        return {**params, **{name: self._adapted(name, params[name], extra) for name in self.selected(params)}}

    def _adapted(self, name: str, kernel: Float[Array, "..."], extra: Extra) -> Float[Array, "..."]:
        down, up = extra.learned[f"{name}_down"], extra.learned[f"{name}_up"]
        product = jnp.einsum("lir,lro->lio", down, up, precision="highest")
        return kernel + (self.alpha / self.rank) * product.reshape(kernel.shape).astype(kernel.dtype)


def _sizes(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns the numbers of layers, inputs and outputs of a kernel."""
    layers = shape[0] if channels.is_scanned(name) else 1
    inputs = math.prod(shape[axis] for axis in channels.summed_axes(name, shape))
    return layers, inputs, math.prod(shape) // (layers * inputs)
