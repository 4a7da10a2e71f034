"""Distillation by singular value decomposition: how the main directions of features turn from layer to layer.

Lee, Kim, Song, "Self-supervised Knowledge Distillation Using Singular Value Decomposition", ECCV 2018,
https://arxiv.org/abs/1807.06819

    loss = sum over entries of (exp(-(s_i - s'_j)^2 / 8) - exp(-(t_i - t'_j)^2 / 8))^2

over all entries i of one layer and j of the next, added over consecutive layers. t are the first k right singular
vectors of an example's map, written as a matrix of places by channels, times their singular values, which are made of
norm 1; s are those of the student's first k + 3 vectors that are nearest to each of them, with the sign that brings
them there, times the same values. With space="width" the matrix is of (channels and heights) by width.

A singular vector has no sign of its own, but the value depends on the teacher's: the sum of its entries is made
positive. Where two singular values meet, a vector has no derivative: 1 / gap is taken as gap / (gap^2 + 1e-8), with
eigenvalues that add up to 1, so that gradients are finite for maps that are 0 or constant. Both networks need equal
channels: where they are not, a learned 1 x 1 convolution widens the student's.

Elsewhere: RepDistiller has the places by channels, mdistiller (channels and heights) by width, which is another loss;
both take whatever signs the decomposition returns and differentiate it without a guard.
"""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping

product = functools.partial(jnp.einsum, precision="highest")
SPACES = ("channels", "width")
BLUR = 1e-4
"""Eigenvalues nearer than this, of a sum of 1, count less and less in the derivative of their vectors."""


def matrix(x: jax.Array, space: str) -> jax.Array:
    """Writes `[batch, height, width, channels]` as `[batch, rows, columns]` of norm 1; `space` is the columns'."""
    x = x.swapaxes(2, 3) if space == "width" else x
    return distance.normalize(x.reshape(x.shape[0], -1, x.shape[3]), axis=(1, 2))


def right_vectors(x: jax.Array, count: int, after: jax.Array | float = 0.0) -> tuple[jax.Array, jax.Array]:
    """The first right singular vectors of `[batch, rows, columns]`, whose norm is 1 (or 0).

    Args:
        after: what must be computed before. Three decompositions at a time stop each other for ever on the CPU of
            JAX 0.10: each holds a thread of the pool that it waits for.

    Returns:
        singular values `[batch, count]`, which pass no gradient, and vectors `[batch, columns, count]`, which do; fewer
        than `count` where the matrix is smaller.
    """
    fixed = jax.lax.stop_gradient(x + 0.0 * jnp.sum(after))
    if x.shape[1] < x.shape[2]:  # the smaller of the two Gram matrices: the others' eigenvalues are 0
        squares, left = jnp.linalg.eigh(product("brc,bsc->brs", fixed, fixed))
        basis = distance.normalize(product("brc,brk->bck", fixed, left), axis=1)
    else:
        squares, basis = jnp.linalg.eigh(product("brc,brd->bcd", fixed, fixed))
    squares, basis = jnp.maximum(squares[:, ::-1], 0.0), basis[:, :, ::-1]
    first, value = basis[:, :, :count], squares[:, :count]
    # Perturbation of the first order: its value is 0 here, its derivative that of the vectors.
    moved = product("brc,brk->bck", x, product("brc,bck->brk", x, first))
    inside = product("bck,bcj->bjk", moved, basis)
    gap = value[:, None, :] - squares[:, :, None]
    step = product("bcj,bjk->bck", basis, inside * gap / (gap**2 + BLUR**2))
    outside = moved - product("bcj,bjk->bck", basis, inside)
    step = step + outside * (value / (value**2 + BLUR**2))[:, None]
    return jnp.sqrt(value), first + step - jax.lax.stop_gradient(step)


def directions(
    student: jax.Array, teacher: jax.Array, count: int, after: jax.Array | float = 0.0
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The two networks' scaled singular vectors of one layer.

    Args:
        student: `[batch, rows, columns]`, of `matrix`.
        teacher: the same columns.
        after: what must be computed before, see `right_vectors`.

    Returns:
        student's `[batch, columns, count]`, teacher's, and its singular values `[batch, count]`, of norm 1.
    """
    values, other = right_vectors(teacher, count, after)
    _, own = right_vectors(student, count + 3, values)
    other = other * jnp.where(jnp.sum(other, 1, keepdims=True) < 0, -1.0, 1.0)
    cosine = jax.lax.stop_gradient(product("bci,bcj->bij", own, other))
    nearest = jax.nn.one_hot(jnp.argmax(jnp.abs(cosine), 1), cosine.shape[1], axis=1, dtype=cosine.dtype)
    own = product("bci,bij->bcj", own, nearest * jnp.sign(cosine))
    values = distance.normalize(values)
    return own * values[:, None], other * values[:, None], values


def turn(first: jax.Array, second: jax.Array) -> jax.Array:
    """Compares every entry of a layer's directions with the next one's: `[batch, columns2, columns1, count]`."""
    count = min(first.shape[2], second.shape[2])
    return jnp.exp(-((second[:, :, None, :count] - first[:, None, :, :count]) ** 2) / 8)


def kdsvd(student: list[jax.Array], teacher: list[jax.Array], vectors: int, space: str = "channels") -> jax.Array:
    """Returns `[batch]` for maps `[batch, height, width, channels]` of consecutive layers."""
    found, after = [], 0.0
    for own, other in zip(student, teacher, strict=True):
        found.append(directions(matrix(own, space), matrix(other, space), vectors, after)[:2])
        after = found[-1][0]
    total = jnp.zeros(())
    for (own, other), (own_next, other_next) in itertools.pairwise(found):
        total = total + jnp.sum((turn(own, own_next) - turn(other, other_next)) ** 2, (1, 2, 3))
    return total


class KDSVD(Method):
    """`layers` in their order, at least two; `vectors` is k; `space` is what the vectors are over."""

    layers: str = "stage1,stage2,stage3"
    vectors: int = 1
    space: str = "channels"
    same_classes = False
    zero_at_teacher = True

    def check(self):
        layer_mapping.check_paired(self.layers)
        check_least("vectors", self.vectors, 1)
        if self.space not in SPACES:
            raise unknown("space", self.space, SPACES)

    @nn.compact
    def __call__(self, student, teacher, batch):
        taps = layer_mapping.taps(self.layers, student, teacher)
        if len(taps) < 2:
            raise UserError(f"layers={self.layers!r} is one pair; this compares two layers and more, 'stage1,stage2'")
        own, other = ([adapters.to_grid(x) for x in side] for side in zip(*taps, strict=True))
        for index, (mine, theirs) in enumerate(zip(own, other, strict=True)):
            if self.space == "channels" and mine.shape[3] != theirs.shape[3]:
                own[index] = adapters.conv(theirs.shape[3], 1, name=f"layer{index}")(mine)
            if self.space == "width" and mine.shape[2] != theirs.shape[2]:
                own[index] = adapters.fit(mine, theirs.shape[1:3])
        return kdsvd(own, other, self.vectors, self.space)
