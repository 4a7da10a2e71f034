"""One network out of several of the same shapes, by their weights alone.

Every rule takes a sequence of equal trees of floating-point arrays (the params of K networks) and returns one. It
computes in float32 or wider and returns the first tree's dtypes. Sums are of differences from the first network, or
of task vectors about the mean, so that K copies of one network give back that network, bit for bit.

Task vectors are differences from a base: the network that all were fine-tuned from. Where `base` is None they are
about the mean of the networks.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Variables
from jaxdistill.errors import UserError, check_fraction, check_positive

Tree = Any


def average(trees: Sequence[Tree], weights: Sequence[float] = ()) -> Tree:
    """Averages; `weights` are relative, () is the uniform average (Wortsman et al.'s "uniform soup").

    Raises:
        UserError: for weights that are not one number of 0 or more for each tree, with a positive sum.
    """
    shares = _shares(trees, weights)

    def one(first, *rest):
        return first + sum(share * (x - first) for share, x in zip(shares[1:], rest, strict=True))

    return _each(one, *trees)


def with_statistics(
    rule: Callable[[Sequence[Tree]], Tree], networks: Sequence[Variables], weights: Sequence[float] = ()
) -> Variables:
    """Merges whole variables: the params by `rule`, every other collection by their average.

    Batch statistics are averaged whatever the rule: what task vectors extrapolate, and what TIES and DARE drop, could
    leave a variance below 0. The average is not what the merged network sees either; recompute it from data.

    Args:
        rule: from K trees of params to one.
        networks: `{"params": ..., "batch_stats": ...}`, K of them.
        weights: of the average of the statistics; () is uniform.
    """
    parts = [core.split_params(network) for network in networks]
    rest = average([statistics for _, statistics in parts], weights)
    return {"params": rule([params for params, _ in parts])} | dict(rest)


class Soup(NamedTuple):
    """What `greedy_soup` made: the merged tree, the places of those kept (the best first), and the scores."""

    tree: Tree
    kept: tuple[int, ...]
    score: float
    alone: tuple[float, ...]


def greedy_soup(trees: Sequence[Tree], score: Callable[[Tree], float]) -> Soup:
    """Averages the best with whatever does not make it worse.

    Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
    inference time", ICML 2022, https://arxiv.org/abs/2203.05482, algorithm 1: the candidates in decreasing order of
    their own score; each stays if the uniform average with it scores no less than without.

    Args:
        score: larger is better; on data held out from training. What is NaN comes last and never stays.
    """
    alone = tuple(float(score(tree)) for tree in trees)
    order = sorted(range(len(trees)), key=lambda i: -alone[i] if alone[i] == alone[i] else float("inf"))
    kept, merged, best = [order[0]], trees[order[0]], alone[order[0]]
    for i in order[1:]:
        candidate = average([trees[j] for j in [*kept, i]])
        value = float(score(candidate))
        if value >= best:
            kept, merged, best = [*kept, i], candidate, value
    return Soup(merged, tuple(kept), best, alone)


def fisher_weighted(
    trees: Sequence[Tree],
    fishers: Sequence[Tree],
    weights: Sequence[float] = (),
    floor: float = 1e-6,
    normalize: bool = True,
) -> Tree:
    """Averages each number weighted by how much its network's predictions depend on it.

    Matena & Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022, https://arxiv.org/abs/2111.09832,
    equation 4: sum_k w_k F_k x_k / sum_k w_k F_k, with diagonal Fisher information F. As in the authors' code
    (https://github.com/mmatena/model_merging) each Fisher is first divided by its L2 norm over the whole network, and
    none is smaller than `floor`. We floor after that division, so that the floor does not depend on how confident the
    networks are, and in all networks; theirs is before it, and spares the first network, whose value is then taken
    where nothing else depends on a number. Here that is the weighted average.

    Args:
        fishers: trees like those of `trees`, of numbers of 0 or more (`diagonal_fisher`).
        weights: relative importance of the networks; () is uniform.
    """
    check_positive("floor", floor)
    shares, count = _shares(trees, weights), len(trees)
    _check_equal([trees[0], *fishers])
    if normalize:
        fishers = [_of_length_1(fisher) for fisher in fishers]

    def one(*both):
        first, strengths = both[0], [s * jnp.maximum(f, floor) for s, f in zip(shares, both[count:], strict=True)]
        total = sum(strengths)
        return first + sum(s / total * (x - first) for s, x in zip(strengths[1:], both[1:count], strict=True))

    return _each(one, *trees, *fishers)


def slerp(trees: Sequence[Tree], weights: Sequence[float] = ()) -> Tree:
    """Interpolates along the arc between two networks, each tensor by the angle between its two directions.

    Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985, https://doi.org/10.1145/325334.325242:
    sin((1 - t) a) / sin(a) x + sin(t a) / sin(a) y, with the angle a of the flattened tensors and t the share of the
    second; their lengths are not normalised. Where a is so near 0 or pi that sin(a) < 1e-4, and where a tensor is all
    zeros, it is the straight line (x + t (y - x)).

    More than two are merged one after another, the k-th with t = w_k / (w_1 + ... + w_k): the inductive mean, which
    where angles are small is the weighted average, and where weights are equal gives each network the same part of
    the way. On a sphere it depends slightly on the order; the exact spherical mean (a fixed point) differs from it in
    the second order of the angles.
    """
    shares = _shares(trees, weights)
    merged, total = trees[0], shares[0]
    for tree, share in zip(trees[1:], shares[1:], strict=True):
        total += share
        if share:
            merged = _each(lambda x, y, t=share / total: _on_arc(x, y, t), merged, tree)
    return merged


def _on_arc(x, y, t):
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
    """
    base = average(trees) if base is None else base
    return _each(lambda x, *vectors: x + scale / len(vectors) * sum(vectors), base, *task_vectors(trees, base))


def ties(trees: Sequence[Tree], base: Tree | None = None, density: float = 0.2, scale: float = 1.0) -> Tree:
    """Trims small changes, elects a sign for each number, and averages those who agree with it.

    Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023,
    https://arxiv.org/abs/2306.01708, algorithm 1: of each task vector the share `density` of largest magnitude over
    the whole network is kept, the others are 0; the sign of a number is that of the sum over networks; the mean is
    over the networks that kept it and have that sign; base + `scale` times that.

    Where positive and negative sum to 0 within rounding nothing is elected, and the base stays. The authors' code
    (https://github.com/prateeky2806/ties-merging) takes there the sign that most numbers of the network have. The two
    differ where it matters only about the mean of two networks, where every sum is such a tie: the result is then
    their average.

    Raises:
        UserError: where `density` is not above 0 and at most 1.
    """
    if not 0 < density <= 1:
        raise UserError(f"density={density} makes no sense; it is the share of each task vector that is kept: (0, 1]")
    base = average(trees) if base is None else base
    trimmed = [_trim(vector, density) for vector in task_vectors(trees, base)]

    def one(start, *vectors):
        vectors = jnp.stack(vectors)
        total, size = jnp.sum(vectors, 0), jnp.sum(jnp.abs(vectors), 0)
        sign = jnp.where(jnp.abs(total) > 1e-5 * size, jnp.sign(total), 0.0)
        agreeing = jnp.where(jnp.sign(vectors) == sign[None], vectors, 0.0)
        count = jnp.sum(agreeing != 0, 0)
        return start + scale * jnp.sum(agreeing, 0) / jnp.maximum(count, 1)

    return _each(one, base, *trimmed)


def _trim(vector: Tree, density: float) -> Tree:
    sizes = jnp.sort(jnp.concatenate([jnp.abs(x).ravel() for x in jax.tree.leaves(vector)]))
    least = sizes[len(sizes) - max(1, int(density * len(sizes)))]
    return jax.tree.map(lambda x: jnp.where(jnp.abs(x) >= least, x, 0.0), vector)


def drop_and_rescale(trees: Sequence[Tree], key: jax.Array, base: Tree, drop: float = 0.5) -> list[Tree]:
    """Sets the share `drop` of each task vector to 0 at random and divides what is left by 1 - drop.

    Yu et al., "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch", ICML 2024,
    https://arxiv.org/abs/2311.03099, equation 2 (DARE). It returns networks, which are then merged about the same
    base, by `task_arithmetic` or `ties`. What is dropped depends on the key, the network's place and the name of the
    array.

    Raises:
        UserError: where `drop` is not a share below 1.
    """
    check_fraction("drop", drop)

    def one(path, start, vector, key):
        kept = jax.random.bernoulli(
            core.fold_in(key, [core.path_name(path)])[core.path_name(path)], 1 - drop, start.shape
        )
        return (start + jnp.where(kept, vector / (1 - drop), 0.0)).astype(start.dtype)

    def thinned(place, vector):
        own = jax.random.fold_in(key, place)
        return jax.tree_util.tree_map_with_path(lambda path, x, v: one(path, x, v, own), base, vector)

    return [thinned(place, vector) for place, vector in enumerate(task_vectors(trees, base))]


def task_vectors(trees: Sequence[Tree], base: Tree) -> list[Tree]:
    """Each tree less the base, in float32 or wider."""
    _check_equal([base, *trees])
    return [jax.tree.map(lambda x, b: core.precise(x) - core.precise(b), tree, base) for tree in trees]


def distance(left: Tree, right: Tree) -> jax.Array:
    """The L2 distance between two trees, over all their numbers."""
    return _norm(task_vectors([left], right)[0])


def _of_length_1(tree: Tree) -> Tree:
    length = _norm(tree)
    return jax.tree.map(lambda x: x / jnp.where(length > 0, length, 1.0), tree)


def _norm(tree: Tree) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(core.precise(x) ** 2) for x in jax.tree.leaves(tree)))


def _each(function: Callable, *trees: Tree) -> Tree:
    """Applies a function of arrays to every leaf in float32 or wider, and returns the first tree's dtypes."""
    _check_equal(trees)
    return jax.tree.map(lambda *xs: jnp.asarray(function(*map(core.precise, xs)), xs[0].dtype), *trees)


def _check_equal(trees: Sequence[Tree]) -> None:
    first, *others = ({core.path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)} for tree in trees)
    for name, x in first.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise UserError(f"{name} is {x.dtype}; only floating-point numbers can be merged")
    for place, other in enumerate(others, start=1):
        wrong = sorted(
            n for n in {*first, *other} if getattr(first.get(n), "shape", 0) != getattr(other.get(n), "shape", 0)
        )
        if wrong:
            raise UserError(f"tree {place} is not shaped as tree 0, for example in {wrong[:4]}; merge equal networks")


def _shares(trees: Sequence[Tree], weights: Sequence[float]) -> list[float]:
    if not trees:
        raise UserError("there is nothing to merge; give one tree or more")
    weights = list(weights) or [1.0] * len(trees)
    if len(weights) != len(trees) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise UserError(
            f"weights={weights} of {len(trees)} networks make no sense; they are a number of 0 or more for each, and"
            " not all 0"
        )
    return [weight / sum(weights) for weight in weights]
