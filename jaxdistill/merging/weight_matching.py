"""Weight matching: the order of one network's units in which its weights are nearest to another's.

Independently trained networks that compute the same function need not have their units in the same order, and their
average is then of no use. `permutations.permutations` finds the orders that are free.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import Variables, path_name, split_params
from jaxdistill.merging import rules, trees
from jaxdistill.merging.permutations import Spec

Permutation = Mapping[str, np.ndarray]
"""permutation -> `[units]`: the unit of the old order at each position of the new one."""


def apply_permutation(variables: Variables, spec: Spec, permutation: Permutation) -> Variables:
    """Reorders the units of a network, in all collections alike; its function stays the same."""
    moves = _moves(spec)

    def move(path: tuple[Any, ...], x: jax.Array) -> jax.Array:
        for axis, name in moves.get(path_name(path), {}).items():
            x = jnp.take(x, jnp.asarray(permutation[name]), axis)
        return x

    return jax.tree_util.tree_map_with_path(move, variables)


def random_permutation(variables: Variables, spec: Spec, key: jax.Array) -> Permutation:
    """Draws every permutation of a spec uniformly."""
    keys = jax.random.split(key, len(spec))
    sizes = _sizes(_arrays(variables), spec)
    return {name: np.asarray(jax.random.permutation(k, sizes[name])) for name, k in zip(spec, keys, strict=True)}


def match(reference: Variables, network: Variables, spec: Spec, key: jax.Array, passes: int = 100) -> Permutation:
    """Finds the order of a network's units in which its params are nearest to `reference`'s.

    Ainsworth et al., "Git Re-Basin: Merging Models modulo Permutation Symmetries", ICLR 2023,
    https://arxiv.org/abs/2209.04836, section 3.2 and algorithm 1: the sum of inner products of the params is
    increased by one permutation at a time, in random order, each the exact solution of a linear assignment given the
    others, until none changes. Batch statistics take no part; they are permuted along.

    As in https://github.com/samuela/git-re-basin the descent starts from the order as it is. From there it undoes any
    permutation of distinct units exactly, in every network tried (up to CifarResNet-56).

    Args:
        reference, network: variables of the same shapes, with the collection "params"; they are copied to the host.
        spec: the free permutations.
        key: of the order of the descent.
        passes: largest number of passes over all permutations.
    """
    pair = _Pair(_arrays({"params": reference["params"]}), _arrays({"params": network["params"]}), spec)
    permutation, names = {name: np.arange(size) for name, size in pair.sizes.items()}, list(pair.sizes)
    for number in range(passes):
        has_changed = False
        for position in np.asarray(jax.random.permutation(jax.random.fold_in(key, number), len(names))):
            name = names[position]
            gains, rows = pair.gains(name, permutation), np.arange(pair.sizes[name])
            order = _assign(gains)
            gain = gains[rows, order].sum() - gains[rows, permutation[name]].sum()
            if gain > 1e-9 * np.abs(gains).max() * len(gains):
                permutation[name], has_changed = order, True
        if not has_changed:
            break
    return permutation


def match_all(networks: Sequence[Variables], spec: Spec, key: jax.Array, rounds: int = 10) -> list[Variables]:
    """Aligns networks with each other: first all to the first, then each to the mean of the others.

    Ainsworth et al., algorithm 3 ("MergeMany"), which has no first step. It ends when a round moves
    nothing; of two networks only the second is moved.
    """
    aligned = [networks[0]]
    for position, network in enumerate(networks[1:]):
        permutation = match(networks[0], network, spec, jax.random.fold_in(key, position))
        aligned.append(apply_permutation(network, spec, permutation))
    for number in range(rounds if len(networks) > 2 else 0):
        has_changed = False
        round_key = jax.random.fold_in(key, len(networks) + number)
        for position in np.asarray(jax.random.permutation(round_key, len(networks))):
            mean = rules.average([x["params"] for i, x in enumerate(aligned) if i != position])
            permutation = match({"params": mean}, aligned[position], spec, jax.random.fold_in(round_key, position))
            if any((order != np.arange(len(order))).any() for order in permutation.values()):
                aligned[position], has_changed = apply_permutation(aligned[position], spec, permutation), True
        if not has_changed:
            break
    return aligned


def distance(left: Variables, right: Variables) -> float:
    """Returns the L2 distance between the params of two networks."""
    return float(trees.distance(split_params(left)[0], split_params(right)[0]))


class _Pair:
    """The params of two networks by name, and the gain of one permutation given the others."""

    def __init__(self, left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray], spec: Spec) -> None:
        self.left, self.right, self.moves = left, right, _moves(spec)
        self.sizes = _sizes(left, spec)
        self.axes = {name: [pair for pair in axes if pair[0] in left] for name, axes in spec.items()}

    def gains(self, name: str, permutation: Permutation) -> np.ndarray:
        """Returns the gain of unit j of the right network at position i, `[units, units]`, given the other orders."""
        total = np.zeros((self.sizes[name], self.sizes[name]))
        for path, axis in self.axes[name]:
            right = self.right[path]
            for moved_axis, mover in self.moves[path].items():
                right = right if moved_axis == axis else np.take(right, permutation[mover], moved_axis)
            total += _rows(self.left[path], axis) @ _rows(right, axis).T
        return total


def _rows(x: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def _assign(gains: np.ndarray) -> np.ndarray:
    """Returns the unit of each position in the assignment of the largest total gain."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(gains, maximize=True)[1]


def _moves(spec: Spec) -> dict[str, dict[int, str]]:
    """array -> {axis: permutation}."""
    moves: dict[str, dict[int, str]] = {}
    for name, axes in spec.items():
        for path, axis in axes:
            moves.setdefault(path, {})[axis] = name
    return moves


def _arrays(variables: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {path_name(path): np.asarray(jax.device_get(x), np.float64) for path, x in leaves}


def _sizes(arrays: Mapping[str, np.ndarray], spec: Spec) -> dict[str, int]:
    return {
        name: next(arrays[path].shape[axis] for path, axis in axes if path in arrays) for name, axes in spec.items()
    }
