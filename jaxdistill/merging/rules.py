"""Rules of merging: one network from several of the same shapes, by their weights alone.

A rule is a function `(trees, ...) -> tree` of the params of K networks, equal trees of floating-point arrays. Its other
parameters are those of `PARAMETERS` that it needs, by name: a config sets `weights`, `base`, `density`, `drop` and
`scale`, and a stage computes `key`, `fishers` and `score`. A rule with `score` is called with whole variables and
returns a `Soup`.

Rules compute in float32 or wider and return the first tree's dtypes. Sums are of differences from the first network, or
of task vectors about the mean, so that K copies of one network give back that network, bit for bit.

Task vectors are differences from a base: the network that all were fine-tuned from. Without a base they are about the
mean of the networks.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Variables
from jaxdistill.errors import UserError, check_fraction, check_positive
from jaxdistill.merging.trees import Tree, check_equal, fractions, map_leaves, task_vectors, to_unit_norm

Rule = Callable[..., Any]

PARAMETERS = ("weights", "base", "density", "drop", "scale", "key", "fishers", "score")
"""The parameters that a rule may have besides `trees`."""


def parameters_of(rule: Rule) -> list[str]:
    """Returns those of `PARAMETERS` that a rule has.

    Raises:
        UserError: if it needs another one.
    """
    _, *parameters = inspect.signature(rule).parameters.values()
    unknown = [p.name for p in parameters if p.name not in PARAMETERS and p.default is inspect.Parameter.empty]
    if unknown:
        raise UserError(f"parameters of a rule of merging must be of {[*PARAMETERS]}, got {unknown}")
    return [parameter.name for parameter in parameters if parameter.name in PARAMETERS]


def average(trees: Sequence[Tree], weights: Sequence[float] = ()) -> Tree:
    """Averages networks (Wortsman et al.'s "uniform soup" without weights).

    Args:
        trees: params of the networks.
        weights: relative importance of the networks; () is uniform.

    Raises:
        UserError: unless weights are one number of at least 0 for each tree, with a positive sum.
    """
    _, *rest = fractions(trees, weights)

    def average_leaf(first: jax.Array, *others: jax.Array) -> jax.Array:
        return first + sum(fraction * (x - first) for fraction, x in zip(rest, others, strict=True))

    return map_leaves(average_leaf, *trees)


def with_statistics(
    rule: Callable[[Sequence[Tree]], Tree], networks: Sequence[Variables], weights: Sequence[float] = ()
) -> Variables:
    """Merges whole variables: the params by `rule`, every other collection by their average.

    Batch statistics are averaged whatever the rule: extrapolated task vectors, and the drops of TIES and DARE, could
    leave a variance below 0. The average is not that of the merged network's activations; recompute it from data.

    Args:
        rule: from K trees of params to one.
        networks: `{"params": ..., "batch_stats": ...}`, K of them.
        weights: of the average of the statistics; () is uniform.
    """
    parts = [core.split_params(network) for network in networks]
    rest = average([statistics for _, statistics in parts], weights)
    return {"params": rule([params for params, _ in parts])} | dict(rest)


class Soup(NamedTuple):
    """The result of a rule that scores networks.

    Attributes:
        tree: the merged network.
        members: positions of the networks that it is made of, the best first.
        score: of the merged network.
        member_scores: of each network alone.
    """

    tree: Tree
    members: tuple[int, ...]
    score: float
    member_scores: tuple[float, ...]


def greedy_soup(trees: Sequence[Tree], score: Callable[[Tree], float]) -> Soup:
    """Averages the best network with all that do not make it worse.

    Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
    inference time", ICML 2022, https://arxiv.org/abs/2203.05482, algorithm 1: the candidates in decreasing order of
    their own score; each stays if the uniform average with it scores no less than without.

    Args:
        trees: the networks.
        score: larger is better; on data held out from training. A network of score NaN comes last and never stays.
    """
    scores = tuple(float(score(tree)) for tree in trees)
    order = sorted(range(len(trees)), key=lambda i: -scores[i] if scores[i] == scores[i] else float("inf"))
    members, merged, best = [order[0]], trees[order[0]], scores[order[0]]
    for i in order[1:]:
        candidate = average([trees[j] for j in [*members, i]])
        value = float(score(candidate))
        if value >= best:
            members, merged, best = [*members, i], candidate, value
    return Soup(merged, tuple(members), best, scores)


def fisher_weighted(
    trees: Sequence[Tree],
    fishers: Sequence[Tree],
    weights: Sequence[float] = (),
    floor: float = 1e-6,
    normalize: bool = True,
) -> Tree:
    """Averages each number with weights by Fisher information: by its influence on its network's predictions.

    Matena & Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022, https://arxiv.org/abs/2111.09832,
    equation 4: sum_k w_k F_k x_k / sum_k w_k F_k, with diagonal Fisher information F. As in the authors' code
    (https://github.com/mmatena/model_merging) each Fisher is first divided by its L2 norm over the whole network, and
    none is smaller than `floor`. We floor after that division, so that the floor does not depend on how confident the
    networks are, and in all networks; theirs is before it, and spares the first network, whose value is then taken
    if no other network depends on a number. Here that is the weighted average.

    Args:
        trees: params of the networks.
        fishers: trees like those of `trees`, of numbers of at least 0 (`diagonal_fisher`).
        weights: relative importance of the networks; () is uniform.
        floor: the smallest Fisher information of a number.
        normalize: whether each network's Fisher information is divided by its L2 norm.
    """
    check_positive("floor", floor)
    factors, count = fractions(trees, weights), len(trees)
    check_equal([trees[0], *fishers])
    if normalize:
        fishers = [to_unit_norm(fisher) for fisher in fishers]

    def average_leaf(*leaves: jax.Array) -> jax.Array:
        first, information = leaves[0], leaves[count:]
        strengths = [factor * jnp.maximum(f, floor) for factor, f in zip(factors, information, strict=True)]
        total = sum(strengths)
        return first + sum(s / total * (x - first) for s, x in zip(strengths[1:], leaves[1:count], strict=True))

    return map_leaves(average_leaf, *trees, *fishers)


def slerp(trees: Sequence[Tree], weights: Sequence[float] = ()) -> Tree:
    """Interpolates along the arc between two networks, each tensor by the angle between its two directions.

    Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985, https://doi.org/10.1145/325334.325242:
    sin((1 - t) a) / sin(a) x + sin(t a) / sin(a) y, with the angle a of the flattened tensors and t the fraction of
    the second; their lengths are not normalised. If a is so near 0 or pi that sin(a) < 1e-4, or if a tensor is all
    zeros, it is the straight line (x + t (y - x)).

    More than two are merged one after another, the k-th with t = w_k / (w_1 + ... + w_k): the inductive mean, which
    for small angles is the weighted average, and for equal weights gives each network the same part of the way. On a
    sphere it depends slightly on the order; the exact spherical mean (a fixed point) differs from it in the second
    order of the angles.

    Args:
        trees: params of the networks.
        weights: relative importance of the networks; () is uniform.
    """
    first, *rest = fractions(trees, weights)
    merged, total = trees[0], first
    for tree, fraction in zip(trees[1:], rest, strict=True):
        total += fraction
        if fraction:
            merged = map_leaves(lambda x, y, t=fraction / total: _interpolate(x, y, t), merged, tree)
    return merged


def _interpolate(x: jax.Array, y: jax.Array, t: float) -> jax.Array:
    """Returns the point at the fraction `t` of the arc from `x` to `y`."""
    lengths = jnp.linalg.norm(x.ravel()), jnp.linalg.norm(y.ravel())
    degenerate = jnp.minimum(*lengths) == 0
    u, v = (z / jnp.where(length > 0, length, 1.0) for z, length in zip((x, y), lengths, strict=True))
    # Kahan's form of the angle: arccos of a product near 1 has no digits left.
    angle = 2 * jnp.arctan2(jnp.linalg.norm((u - v).ravel()), jnp.linalg.norm((u + v).ravel()))
    sine = jnp.sin(angle)
    straight = degenerate | (sine < 1e-4)
    sine = jnp.where(straight, 1.0, sine)
    arc = jnp.sin((1 - t) * angle) / sine * x + jnp.sin(t * angle) / sine * y
    return jnp.where(straight, x + t * (y - x), arc)


def task_arithmetic(trees: Sequence[Tree], base: Tree | None = None, scale: float = 1.0) -> Tree:
    """Adds to the base `scale` times the mean of the task vectors.

    Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023, https://arxiv.org/abs/2212.04089, section 4:
    base + lambda * sum of task vectors. Our `scale` is lambda times the number of networks, so that 1.0 is the plain
    average and its meaning does not change with their number; the paper's lambda of 0.3 for 8 tasks is 2.4.
    About the mean (base=None) task vectors sum to 0, so that any scale gives the average.

    Args:
        trees: params of the networks.
        base: params of the network that they were fine-tuned from; their mean if `None`.
        scale: factor of the mean task vector.
    """
    base = average(trees) if base is None else base
    return map_leaves(lambda x, *vectors: x + scale / len(vectors) * sum(vectors), base, *task_vectors(trees, base))


def ties(trees: Sequence[Tree], base: Tree | None = None, density: float = 0.2, scale: float = 1.0) -> Tree:
    """Trims small changes, elects a sign for each number, and averages the changes of that sign.

    Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023,
    https://arxiv.org/abs/2306.01708, algorithm 1: of each task vector the fraction `density` of largest magnitude over
    the whole network is kept, the others are 0; the sign of a number is that of the sum over networks; the mean is
    over the networks that kept it and have that sign; base + `scale` times that.

    If positive and negative changes sum to 0 within rounding no sign is elected, and the base stays. The authors' code
    (https://github.com/prateeky2806/ties-merging) then takes the sign that most numbers of the network have. The
    difference matters only about the mean of two networks, for which every sum is such a tie: the result is then their
    average.

    Args:
        trees: params of the networks.
        base: params of the network that they were fine-tuned from; their mean if `None`.
        density: fraction of each task vector that is kept.
        scale: factor of the merged task vector.

    Raises:
        UserError: unless `density` is above 0 and at most 1.
    """
    if not 0 < density <= 1:
        raise UserError(f"density must be in (0, 1], the fraction of each task vector that is kept, got {density}")
    base = average(trees) if base is None else base
    trimmed = [_trim(vector, density) for vector in task_vectors(trees, base)]

    def merge_leaf(start: jax.Array, *leaves: jax.Array) -> jax.Array:
        vectors = jnp.stack(leaves)
        total, size = jnp.sum(vectors, 0), jnp.sum(jnp.abs(vectors), 0)
        sign = jnp.where(jnp.abs(total) > 1e-5 * size, jnp.sign(total), 0.0)
        agreeing = jnp.where(jnp.sign(vectors) == sign[None], vectors, 0.0)
        count = jnp.sum(agreeing != 0, 0)
        return start + scale * jnp.sum(agreeing, 0) / jnp.maximum(count, 1)

    return map_leaves(merge_leaf, base, *trimmed)


def _trim(vector: Tree, density: float) -> Tree:
    """Returns a task vector with all but its largest numbers set to 0."""
    sizes = jnp.sort(jnp.concatenate([jnp.abs(x).ravel() for x in jax.tree.leaves(vector)]))
    least = sizes[len(sizes) - max(1, int(density * len(sizes)))]
    return jax.tree.map(lambda x: jnp.where(jnp.abs(x) >= least, x, 0.0), vector)


def drop_and_rescale(trees: Sequence[Tree], key: jax.Array, base: Tree, drop: float = 0.5) -> list[Tree]:
    """Sets the fraction `drop` of each task vector to 0 at random and divides the rest by 1 - drop.

    Yu et al., "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch", ICML 2024,
    https://arxiv.org/abs/2311.03099, equation 2 (DARE). It returns networks, which are then merged about the same
    base, by `task_arithmetic` or `ties`. The choice depends on the key, the network's position and the name of the
    array.

    Args:
        trees: params of the networks.
        key: of random numbers.
        base: params of the network that they were fine-tuned from.
        drop: fraction of each task vector that is set to 0.

    Raises:
        UserError: unless `drop` is in [0, 1).
    """
    check_fraction("drop", drop)

    def thin_leaf(name: str, start: jax.Array, vector: jax.Array, key: jax.Array) -> jax.Array:
        keep = jax.random.bernoulli(core.fold_in(key, [name])[name], 1 - drop, start.shape)
        return (start + jnp.where(keep, vector / (1 - drop), 0.0)).astype(start.dtype)

    def thin(position: int, vector: Tree) -> Tree:
        network_key = jax.random.fold_in(key, position)
        return jax.tree_util.tree_map_with_path(
            lambda path, x, v: thin_leaf(core.path_name(path), x, v, network_key), base, vector
        )

    return [thin(position, vector) for position, vector in enumerate(task_vectors(trees, base))]


def dare(
    trees: Sequence[Tree], key: jax.Array, base: Tree | None = None, drop: float = 0.5, scale: float = 1.0
) -> Tree:
    """Merges by `task_arithmetic` after `drop_and_rescale`; the arguments are theirs."""
    base = average(trees) if base is None else base
    return task_arithmetic(drop_and_rescale(trees, key, base, drop), base, scale)


def dare_ties(
    trees: Sequence[Tree],
    key: jax.Array,
    base: Tree | None = None,
    drop: float = 0.5,
    density: float = 0.2,
    scale: float = 1.0,
) -> Tree:
    """Merges by `ties` after `drop_and_rescale`; the arguments are theirs."""
    base = average(trees) if base is None else base
    return ties(drop_and_rescale(trees, key, base, drop), base, density, scale)


RULES: dict[str, Rule] = {
    "average": average,
    "soup": greedy_soup,
    "fisher": fisher_weighted,
    "slerp": slerp,
    "task_arithmetic": task_arithmetic,
    "ties": ties,
    "dare": dare,
    "dare_ties": dare_ties,
}
"""name -> rule of merging."""
