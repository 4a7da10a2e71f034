"""A view: weights that share a few values, chosen by k-means.

    w'[i] = c[a[i]]        a[i] = the nearest value to w[i], chosen anew every N updates        c[j] = mean of w[a == j]

Han, Mao & Dally, "Deep Compression", ICLR 2016, https://arxiv.org/abs/1510.00149, section 3: the values of each array
are clustered, and the centres train on with the weights. Here the weights keep numbers of their own, the gradient by w'
is passed to them unchanged (there: summed for each centre), and a centre is the mean of its weights, so that it moves
by the mean of their gradients. Weights that are exactly 0, as a mask makes them, stay 0 and count for no centre.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdistill.compress import channels, k_means
from jaxdistill.compress.fake_quantize import straight_through
from jaxdistill.compress.view import Arrays, Extra, Stored, View
from jaxdistill.config.parse import option
from jaxdistill.errors import check_between, check_least


@dataclasses.dataclass(frozen=True)
class Codebook(View):
    """`size` values for each array, and for each layer of a scanned stack, besides the zeros of a mask."""

    size: int = option(16, "number of values of an array, 2 to 256")
    every: int = option(100, "updates between two choices of the nearest values", least=1)
    iterations: int = option(10, "iterations of k-means at each choice", least=1)

    order: ClassVar[int] = 4

    def check(self, params: Arrays) -> None:
        super().check(params)
        check_between("size", self.size, 2, 256)
        check_least("iterations", self.iterations, 1)

    def init(self, params: Arrays) -> Extra:
        state: dict[str, Array] = {}
        for name in self.selected(params):
            state |= self._cluster(name, params[name], None)
        return Extra(state=state)

    def view(self, params: Arrays, extra: Extra) -> dict[str, Array]:
        return {**params, **{name: self._shared(name, params[name], extra) for name in self.selected(params)}}

    def stored(self, forms: Mapping[str, Stored], params: Arrays, extra: Extra) -> dict[str, Stored]:
        """Returns forms of an index for each weight, with the values in float32."""
        stored = dict(forms)
        for name in self.selected(params):
            table = 32 * extra.state[f"{name}_codebook"].size
            bits = (self.size - 1).bit_length()
            stored[name] = forms[name]._replace(bits=bits, extra_bits=forms[name].extra_bits + table)
        return stored

    def update(self, extra: Extra, params: Arrays, step: Int[Array, ""]) -> Extra:
        def choose() -> dict[str, Array]:
            state: dict[str, Array] = {}
            for name in self.selected(params):
                state |= self._cluster(name, params[name], extra.state[f"{name}_codebook"])
            return state

        return extra._replace(state=jax.lax.cond(step % self.every == 0, choose, lambda: dict(extra.state)))

    def _cluster(
        self, name: str, w: Float[Array, "..."], codebook: Float[Array, "layers size"] | None
    ) -> dict[str, Array]:
        """Returns the centres and the index of each weight, chosen anew."""

        def cluster(values: Float[Array, " n"], centres: Float[Array, " size"] | None) -> tuple[Array, Array]:
            counted = values != 0
            first = k_means.first_centres(values, counted, self.size) if centres is None else centres
            final = k_means.k_means(values, counted, first, self.iterations)
            return final, k_means.assign(values, final).astype(jnp.uint8)

        if codebook is None:
            centres, index = jax.vmap(lambda values: cluster(values, None))(_by_layer(name, w))
        else:
            centres, index = jax.vmap(cluster)(_by_layer(name, w), codebook)
        return {f"{name}_codebook": centres, f"{name}_index": index.reshape(w.shape)}

    def _shared(self, name: str, w: Float[Array, "..."], extra: Extra) -> Float[Array, "..."]:
        """Returns the weights with the mean of those of their index, with the gradient of the weights."""

        def share(values: Float[Array, " n"], index: Int[Array, " n"], centres: Float[Array, " size"]) -> Array:
            counted = values != 0
            return jnp.where(counted, k_means.centre_means(values, counted, index, centres)[index], 0.0)

        index = _by_layer(name, extra.state[f"{name}_index"]).astype(jnp.int32)
        shared = jax.vmap(share)(_by_layer(name, w), index, extra.state[f"{name}_codebook"])
        return straight_through(w, shared.reshape(w.shape))


def _by_layer(name: str, x: Array) -> Array:
    """Returns an array as one row, or one for each layer of a scanned stack."""
    return x.reshape(len(x) if channels.is_scanned(name) else 1, -1)
