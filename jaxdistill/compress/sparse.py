"""Sparse weights: masks by magnitude, by movement, or of N of every M, at once or by a gradual schedule.

    view     w m                      m = 1 for the kept weights, 0 for the others
    gradual  s(t) = s (1 - (1 - (t - at) / over)^3)
    movement S <- S - lr dL/dS        dL/dS = w dL/d(w m), straight through m; kept are the largest S

Zhu & Gupta, "To prune, or not to prune", 2017, https://arxiv.org/abs/1710.01878, equation 1, from an initial sparsity
of 0; Sanh, Wolf, Rush, "Movement Pruning", NeurIPS 2020, https://arxiv.org/abs/2005.07683, equation 3 and its straight-
through gradient; Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021, https://arxiv.org/abs/2104.08378, for
2 of 4 along the inputs of each output. A weight whose mask is 0 has no gradient, and returns only if it is among the
largest again when the mask is next made.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdistill.compress import channels
from jaxdistill.compress.view import Arrays, Extra, Shapes, Stored, View
from jaxdistill.config.durations import Steps
from jaxdistill.config.parse import option
from jaxdistill.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sparse(View):
    """Weights of which a share is zero."""

    sparsity: float = option(0.5, "share of the weights that are zero", least=0)
    scope: str = option(
        "layer", "whether the share is that of each array or of all together", choices=("layer", "global")
    )
    by: str = option("magnitude", "weights that are kept", choices=("magnitude", "movement"))
    n: int = option(0, "weights that are kept of every m inputs of an output; 0 for a share", least=0)
    m: int = option(4, "size of the groups of n", least=2)
    at: Steps = option(0, "optimizer step of the first mask", least=0)
    over: Steps = option(0, "length of the rise of the share to its value; 0 for at once", least=0)
    every: Steps = option(1, "optimizer steps between two masks of the rise", least=1)

    order: ClassVar[int] = 3

    def check(self, params: Shapes) -> None:
        super().check(params)
        if self.sparsity >= 1:
            raise UserError(f"sparsity must be less than 1, got {self.sparsity}. At 1 no weight is left")
        if self.n >= self.m:
            raise UserError(f"n must be less than m, got {self.n} of {self.m}. 2 of 4 keeps a half")
        if self.n and (self.by, self.scope) != ("magnitude", "layer"):
            raise UserError(
                f"n must be 0 with by={self.by!r} and scope={self.scope!r}, got {self.n}. Groups have neither"
            )
        for name in self.selected(params) if self.n else ():
            shape = params[name].shape
            inputs = math.prod(shape[axis] for axis in channels.summed_axes(name, shape))
            if inputs % self.m:
                raise UserError(
                    f"m must divide the inputs of each output, got {self.m} for {name} with {inputs} inputs. Leave it"
                    " out by match"
                )
        sizes = {name: math.prod(params[name].shape) for name in self.selected(params)}
        wholes = {"all arrays": sum(sizes.values())} if self.scope == "global" else sizes
        for name, size in wholes.items() if not self.n else ():
            if round(self.sparsity * size) == size:
                raise UserError(
                    f"sparsity must leave a weight of {name} with {size} weights, got {self.sparsity}. Lower it, or"
                    " leave the array out by match"
                )

    @property
    def last_step(self) -> int:
        return self.at + self.over

    def init(self, params: Arrays) -> Extra:
        chosen = {name: params[name] for name in self.selected(params)}
        scores = {name: jnp.zeros_like(x) for name, x in chosen.items()} if self.by == "movement" else {}
        everything = {name: jnp.ones(x.shape, bool) for name, x in chosen.items()}
        return Extra(scores, everything if self._moves else self._masks(chosen, jnp.float32(self.sparsity)))

    def view(self, params: Arrays, extra: Extra) -> dict[str, Array]:
        masks = {name: extra.state[name].astype(params[name].dtype) for name in extra.state}
        if extra.learned:
            masks = {name: _through(mask, extra.learned[name]) for name, mask in masks.items()}
        return {**params, **{name: params[name] * mask for name, mask in masks.items()}}

    def stored(self, forms: Mapping[str, Stored], params: Arrays, extra: Extra) -> dict[str, Stored]:
        """Returns forms of the kept values alone, with a bit for each weight that is 1 for a kept one."""
        stored = dict(forms)
        for name, mask in extra.state.items():
            extra_bits = forms[name].extra_bits + mask.size
            stored[name] = forms[name]._replace(values=int(jnp.sum(mask)), extra_bits=extra_bits)
        return stored

    def update(self, extra: Extra, params: Arrays, step: Int[Array, ""]) -> Extra:
        if not self._moves:
            return extra
        scores = extra.learned or {name: params[name] for name in extra.state}
        last = self.at + self.over
        due = ((step >= self.at) & ((step - self.at) % self.every == 0) & (step <= last)) | (step == last)
        due |= (step >= last) & (self.by == "movement")
        share = self.share(step)
        masks = jax.lax.cond(due, lambda: self._masks(scores, share), lambda: dict(extra.state))
        return extra._replace(state=masks)

    @property
    def _moves(self) -> bool:
        """Whether masks change while a network is trained."""
        return bool(self.at or self.over) or self.by == "movement"

    def share(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Returns the share of zeros after optimizer update number `step`."""
        done = jnp.clip((step - self.at) / self.over, 0.0, 1.0) if self.over else (step >= self.at) * 1.0
        return self.sparsity * (1 - (1 - done) ** 3)

    def _masks(self, scores: Arrays, share: Float[Array, ""]) -> dict[str, Bool[Array, "..."]]:
        """Returns masks of the kept weights."""
        ranks = {name: x if self.by == "movement" else jnp.abs(x) for name, x in scores.items()}
        if self.n:
            return {
                name: largest_of_groups(x, self.n, self.m, channels.summed_axes(name, x.shape))
                for name, x in ranks.items()
            }
        if self.scope == "layer":
            return {name: largest(x, share) for name, x in ranks.items()}
        joined = largest(jnp.concatenate([x.ravel() for x in ranks.values()]), share)
        masks, start = {}, 0
        for name, x in ranks.items():
            masks[name] = joined[start : start + x.size].reshape(x.shape)
            start += x.size
        return masks


def largest(scores: Float[Array, "*n"], share: Float[Array, ""]) -> Bool[Array, "*n"]:
    """Returns the mask of the largest scores, all but `share` of them, exactly; of equal ones the first are kept."""
    flat = scores.ravel()
    dropped = jnp.round(share * flat.size).astype(jnp.int32)
    order = jnp.argsort(-flat, stable=True)
    ranks = jnp.zeros(flat.size, jnp.int32).at[order].set(jnp.arange(flat.size, dtype=jnp.int32))
    return (ranks < flat.size - dropped).reshape(scores.shape)


def largest_of_groups(
    scores: Float[Array, "*shape"], n: int, m: int, inputs: Sequence[int] | None = None
) -> Bool[Array, "*shape"]:
    """Returns the mask of the n largest of every m inputs in a row of each output.

    Args:
        scores: of the weights of a layer.
        n: that stay.
        m: of a group.
        inputs: axes that the layer sums over, all but the last by default; the others are those of outputs.
    """
    axes = tuple(range(scores.ndim - 1) if inputs is None else inputs)
    order = [axis for axis in range(scores.ndim) if axis not in axes] + [*axes]
    moved = jnp.transpose(scores, order)
    groups = moved.reshape(-1, m)
    ranks = jnp.argsort(jnp.argsort(-groups, axis=1, stable=True), axis=1)
    return jnp.transpose((ranks < n).reshape(moved.shape), [order.index(axis) for axis in range(scores.ndim)])


@jax.custom_vjp
def _through(mask: Array, scores: Array) -> Array:
    return mask


def _through_forward(mask: Array, scores: Array) -> tuple[Array, None]:
    return mask, None


def _through_backward(_: None, gradient: Array) -> tuple[Array, Array]:
    return jnp.zeros_like(gradient), gradient


_through.defvjp(_through_forward, _through_backward)
