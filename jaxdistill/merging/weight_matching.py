"""Permutes the units of one network so that they stand where another has those most like them.

Independently trained networks that compute the same need not have their units in the same order, and their average is
then no network at all. `symmetry.permutations` says which orders are free.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import Variables, path_name, split_params
from jaxdistill.merging import rules
from jaxdistill.merging.permutations import Spec

Permutation = Mapping[str, np.ndarray]
"""permutation -> `[units]`: which unit of the old order stands at each place of the new."""


def apply_permutation(variables: Variables, spec: Spec, permutation: Permutation) -> Variables:
    """Reorders the units of a network, in all collections alike; what it computes stays the same."""
    moves = _moves(spec)

    def move(path, x):
        for axis, name in moves.get(path_name(path), {}).items():
            x = jnp.take(x, jnp.asarray(permutation[name]), axis)
        return x

    return jax.tree_util.tree_map_with_path(move, variables)


def random_permutation(variables: Variables, spec: Spec, key: jax.Array) -> Permutation:
    """Draws every permutation of a spec uniformly."""
    keys = jax.random.split(key, len(spec))
    sizes = _sizes(_arrays(variables), spec)
    return {name: np.asarray(jax.random.permutation(k, sizes[name])) for name, k in zip(spec, keys, strict=True)}


def match(reference: Variables, other: Variables, spec: Spec, key: jax.Array, passes: int = 100) -> Permutation:
    """Finds the order of `other`'s units in which its params are nearest to `reference`'s.

    Ainsworth et al., "Git Re-Basin: Merging Models modulo Permutation Symmetries", ICLR 2023,
    https://arxiv.org/abs/2209.04836, section 3.2 and algorithm 1: the sum of inner products of the params is
    increased by one permutation at a time, in random order, each the exact solution of a linear assignment given the
    others, until none changes. Batch statistics take no part; they are permuted along.

    As in https://github.com/samuela/git-re-basin the descent starts from the order as it is. From there it undoes any
    permutation of distinct units exactly, in every network tried (up to CifarResNet-56).

    Args:
        reference, other: variables of the same shapes, with the collection "params"; they are brought to the host.
        key: of the order of the descent.
        passes: at most so many times over all permutations.
    """
    pair = _Pair(_arrays({"params": reference["params"]}), _arrays({"params": other["params"]}), spec)
    found, names = {name: np.arange(size) for name, size in pair.sizes.items()}, list(pair.sizes)
    for number in range(passes):
        better = False
        for place in np.asarray(jax.random.permutation(jax.random.fold_in(key, number), len(names))):
            name = names[place]
            total, rows = pair.gains(name, found), np.arange(pair.sizes[name])
            order = _assigned(total)
            gain = total[rows, order].sum() - total[rows, found[name]].sum()
            if gain > 1e-9 * np.abs(total).max() * len(total):
                found[name], better = order, True
        if not better:
            break
    return found


def match_all(networks: Sequence[Variables], spec: Spec, key: jax.Array, rounds: int = 10) -> list[Variables]:
    """Aligns several networks with each other: first all to the first, then each to the mean of the others.

    Ainsworth et al., algorithm 3 ("MergeMany"), which has no first step. It ends when a round moves
    nothing; of two networks only the second is moved.
    """
    aligned = [networks[0]]
    for place, other in enumerate(networks[1:]):
        permutation = match(networks[0], other, spec, jax.random.fold_in(key, place))
        aligned.append(apply_permutation(other, spec, permutation))
    for number in range(rounds if len(networks) > 2 else 0):
        moved = False
        own = jax.random.fold_in(key, len(networks) + number)
        for place in np.asarray(jax.random.permutation(own, len(networks))):
            others = rules.average([x["params"] for i, x in enumerate(aligned) if i != place])
            permutation = match({"params": others}, aligned[place], spec, jax.random.fold_in(own, place))
            if any((order != np.arange(len(order))).any() for order in permutation.values()):
                aligned[place], moved = apply_permutation(aligned[place], spec, permutation), True
        if not moved:
            break
    return aligned


def distance(left: Variables, right: Variables) -> float:
    """The L2 distance between the params of two networks."""
    return float(rules.distance(split_params(left)[0], split_params(right)[0]))


class _Pair:
    """Two networks' params by name, and what one permutation is worth given others."""

    def __init__(self, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], spec: Spec):
        self.ours, self.theirs, self.moves = ours, theirs, _moves(spec)
        self.sizes = _sizes(ours, spec)
        self.axes = {name: [pair for pair in axes if pair[0] in ours] for name, axes in spec.items()}

    def gains(self, name: str, order: Permutation) -> np.ndarray:
        """What it is worth to put their unit j in our place i, `[units, units]`, the others being in that order."""
        total = np.zeros((self.sizes[name], self.sizes[name]))
        for path, axis in self.axes[name]:
            theirs = self.theirs[path]
            for at, other in self.moves[path].items():
                theirs = theirs if at == axis else np.take(theirs, order[other], at)
            total += _rows(self.ours[path], axis) @ _rows(theirs, axis).T
        return total


def _rows(x: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def _assigned(total: np.ndarray) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(total, maximize=True)[1]


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
