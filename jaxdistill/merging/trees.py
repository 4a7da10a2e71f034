"""Arithmetic of equal trees of arrays: task vectors, distances, and functions leaf by leaf in float32 or wider."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.errors import UserError

Tree = Any
"""A tree of floating-point arrays, such as the params of a network."""


def task_vectors(trees: Sequence[Tree], base: Tree) -> list[Tree]:
    """Returns each tree minus the base, in float32 or wider."""
    check_equal([base, *trees])
    return [jax.tree.map(lambda x, b: core.precise(x) - core.precise(b), tree, base) for tree in trees]


def distance(left: Tree, right: Tree) -> jax.Array:
    """Returns the L2 distance between two trees, over all their numbers."""
    return norm(task_vectors([left], right)[0])


def norm(tree: Tree) -> jax.Array:
    """Returns the L2 norm of a tree, over all its numbers."""
    return jnp.sqrt(sum(jnp.sum(core.precise(x) ** 2) for x in jax.tree.leaves(tree)))


def to_unit_norm(tree: Tree) -> Tree:
    """Returns a tree of L2 norm 1, or zeros of zeros."""
    length = norm(tree)
    return jax.tree.map(lambda x: x / jnp.where(length > 0, length, 1.0), tree)


def map_leaves(function: Callable[..., jax.Array], *trees: Tree) -> Tree:
    """Applies a function of arrays to every leaf in float32 or wider, and returns the first tree's dtypes."""
    check_equal(trees)
    return jax.tree.map(lambda *xs: jnp.asarray(function(*map(core.precise, xs)), xs[0].dtype), *trees)


def check_equal(trees: Sequence[Tree]) -> None:
    """Checks that trees have the same names and shapes.

    Raises:
        UserError: if they do not, or if an array is not of floating-point numbers.
    """
    first, *rest = ({core.path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)} for tree in trees)
    for name, x in first.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise UserError(f"{name} must be of floating-point numbers to be merged, got {x.dtype}")
    for number, tree in enumerate(rest, start=1):
        names = {*first, *tree}
        wrong = sorted(n for n in names if getattr(first.get(n), "shape", 0) != getattr(tree.get(n), "shape", 0))
        if wrong:
            raise UserError(
                f"tree {number} must have the shapes of tree 0, got others in {wrong[:4]}. Merge equal networks"
            )


def fractions(trees: Sequence[Tree], weights: Sequence[float]) -> list[float]:
    """Returns relative weights of trees, made to sum to 1; uniform ones for ().

    Raises:
        UserError: unless they are one number of at least 0 for each tree, with a positive sum.
    """
    if not trees:
        raise UserError("trees must be one or more, got none")
    weights = list(weights) or [1.0] * len(trees)
    if len(weights) != len(trees) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise UserError(
            f"weights must be a number of 0 or more for each of {len(trees)} networks, not all 0, got {weights}"
        )
    return [weight / sum(weights) for weight in weights]
