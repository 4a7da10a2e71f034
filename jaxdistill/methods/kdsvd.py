"""Knowledge distillation by singular value decomposition (KD-SVD).

Lee, Kim, Song, "Self-supervised Knowledge Distillation Using Singular Value Decomposition", ECCV 2018,
https://arxiv.org/abs/1807.06819

    loss = sum over entries of (exp(-(s_i - s'_j)^2 / 8) - exp(-(t_i - t'_j)^2 / 8))^2

over all entries i of one layer and j of the next, added over consecutive layers: the main directions of the features
turn from layer to layer as the teacher's do. t are the first k right singular vectors of an example's map, written as a
matrix of places by channels, times their singular values, normalised to norm 1; s are, of the student's first k + 3
vectors, the nearest to each of them, with the sign of that match, times the same values. With space="width" the matrix
is of (channels and heights) by width.

The sign of a singular vector is arbitrary, but the value depends on the teacher's: the sum of its entries is made
positive. If two singular values are equal, a vector has no derivative: 1 / gap is taken as gap / (gap^2 + 1e-8), with
eigenvalues that add up to 1, so that gradients are finite for maps that are 0 or constant. Both networks need equal
channels: if they differ, a learned 1 x 1 convolution gives the student's the teacher's.

Elsewhere: RepDistiller has the places by channels, mdistiller (channels and heights) by width, which is another loss;
both take the signs that the decomposition returns and differentiate it without a guard.
"""

import functools
import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping

product = functools.partial(jnp.einsum, precision="highest")
SPACES = ("channels", "width")
Map = Float[Array, "batch _ _ _"]
EIGENVALUE_GAP = 1e-4
"""Pairs of eigenvalues, which sum to 1, nearer than this are damped in the derivative of their vectors."""


def matrix(x: Float[Array, "batch height width channels"], space: str) -> Float[Array, "batch rows columns"]:
    """Reshapes maps to matrices of norm 1; `space` is the axis of the columns."""
    x = x.swapaxes(2, 3) if space == "width" else x
    return distance.normalize(x.reshape(x.shape[0], -1, x.shape[3]), axis=(1, 2))


def right_vectors(
    x: Float[Array, "batch rows columns"], count: int, after: Float[Array, "..."] | float = 0.0
) -> tuple[Float[Array, "batch k"], Float[Array, "batch columns k"]]:
    """Computes the first right singular vectors of matrices of norm 1, or 0.

    Args:
        after: a value that must be computed before. Three concurrent decompositions deadlock on the CPU of JAX 0.10:
            each holds a thread of the pool that it waits for.

    Returns:
        Singular values, which pass no gradient, and vectors, which do; k is `count`, or the size of a smaller matrix.
    """
    fixed = jax.lax.stop_gradient(x + 0.0 * jnp.sum(after))
    if x.shape[1] < x.shape[2]:  # the smaller Gram matrix: all other eigenvalues are 0
        squares, left = jnp.linalg.eigh(product("brc,bsc->brs", fixed, fixed))
        basis = distance.normalize(product("brc,brk->bck", fixed, left), axis=1)
    else:
        squares, basis = jnp.linalg.eigh(product("brc,brd->bcd", fixed, fixed))
    squares, basis = jnp.maximum(squares[:, ::-1], 0.0), basis[:, :, ::-1]
    first, value = basis[:, :, :count], squares[:, :count]
    # First-order perturbation: its value is 0, its derivative is that of the vectors.
    moved = product("brc,brk->bck", x, product("brc,bck->brk", x, first))
    inside = product("bck,bcj->bjk", moved, basis)
    gap = value[:, None, :] - squares[:, :, None]
    step = product("bcj,bjk->bck", basis, inside * gap / (gap**2 + EIGENVALUE_GAP**2))
    outside = moved - product("bcj,bjk->bck", basis, inside)
    step = step + outside * (value / (value**2 + EIGENVALUE_GAP**2))[:, None]
    return jnp.sqrt(value), first + step - jax.lax.stop_gradient(step)


def directions(
    student: Float[Array, "batch _ columns"],
    teacher: Float[Array, "batch _ columns"],
    count: int,
    after: Float[Array, "..."] | float = 0.0,
) -> tuple[Float[Array, "batch columns k"], Float[Array, "batch columns k"], Float[Array, "batch k"]]:
    """Returns both sides' scaled singular vectors of one layer, and the teacher's singular values of norm 1.

    `after` is that of `right_vectors`.
    """
    values, target = right_vectors(teacher, count, after)
    _, vectors = right_vectors(student, count + 3, values)
    target = target * jnp.where(jnp.sum(target, 1, keepdims=True) < 0, -1.0, 1.0)
    cosine = jax.lax.stop_gradient(product("bci,bcj->bij", vectors, target))
    nearest = jax.nn.one_hot(jnp.argmax(jnp.abs(cosine), 1), cosine.shape[1], axis=1, dtype=cosine.dtype)
    matched = product("bci,bij->bcj", vectors, nearest * jnp.sign(cosine))
    values = distance.normalize(values)
    return matched * values[:, None], target * values[:, None], values


def turn(
    first: Float[Array, "batch columns1 _"], second: Float[Array, "batch columns2 _"]
) -> Float[Array, "batch columns2 columns1 k"]:
    """Compares every entry of a layer's directions with every entry of the next layer's."""
    count = min(first.shape[2], second.shape[2])
    return jnp.exp(-((second[:, :, None, :count] - first[:, None, :, :count]) ** 2) / 8)


def kdsvd(
    student: Sequence[Map], teacher: Sequence[Map], vectors: int, space: str = "channels"
) -> Float[Array, " batch"]:
    """Compares the turns between consecutive layers."""
    layers, after = [], 0.0
    for student_map, teacher_map in zip(student, teacher, strict=True):
        layers.append(directions(matrix(student_map, space), matrix(teacher_map, space), vectors, after)[:2])
        after = layers[-1][0]
    total = jnp.zeros(())
    for (student_first, teacher_first), (student_next, teacher_next) in itertools.pairwise(layers):
        difference = turn(student_first, student_next) - turn(teacher_first, teacher_next)
        total = total + jnp.sum(difference**2, (1, 2, 3))
    return total


class KDSVD(Method):
    """`layers` are in their order, at least two; `vectors` is k; `space` is the axis of the vectors."""

    layers: str = "stage1,stage2,stage3"
    vectors: int = 1
    space: str = "channels"
    same_classes = False
    zero_at_teacher = True

    def check(self) -> None:
        layer_mapping.check_paired(self.layers)
        check_least("vectors", self.vectors, 1)
        if self.space not in SPACES:
            raise unknown("space", self.space, SPACES, "an axis of the maps")

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        taps = layer_mapping.paired_taps(self.layers, student, teacher)
        if len(taps) < 2:
            raise UserError(f"layers must name two pairs or more, like 'stage1,stage2', got one pair, {self.layers!r}")
        student_maps, teacher_maps = ([adapters.to_grid(x) for x in side] for side in zip(*taps, strict=True))
        for index, (s, t) in enumerate(zip(student_maps, teacher_maps, strict=True)):
            if self.space == "channels" and s.shape[3] != t.shape[3]:
                student_maps[index] = adapters.conv(t.shape[3], 1, name=f"layer{index}")(s)
            if self.space == "width" and s.shape[2] != t.shape[2]:
                student_maps[index] = adapters.resize(s, t.shape[1:3])
        return kdsvd(student_maps, teacher_maps, self.vectors, self.space)
