"""Permutations that change nothing are found by tracing, applied, and undone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.merging import rules, weight_matching
from permuted import NETWORKS, scattered, trace

SLOW = {"cifar_resnet", "resnet, basic", "resnet, bottlenecks", "wide_resnet"}


def slow_ones(names):
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


@pytest.mark.parametrize("name", slow_ones(NETWORKS))
def test_alignment_undoes_a_random_permutation_exactly(name):
    apply, variables, x, spec = trace(name)
    permutation = weight_matching.random_permutation(variables, spec, jax.random.key(2))
    moved = weight_matching.apply_permutation(variables, spec, permutation)
    assert weight_matching.distance(variables, moved) > 1
    before = apply(variables, x)
    assert float(jnp.std(before)) > 1e-3
    np.testing.assert_allclose(apply(moved, x), before, rtol=1e-4, atol=1e-5 * float(jnp.abs(before).max()))
    found = weight_matching.match(variables, moved, spec, jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, weight_matching.apply_permutation(moved, spec, found), variables)


def test_alignment_never_moves_a_network_away():
    _, variables, _, spec = trace("mlp")
    other = scattered(jax.tree.map(lambda x: jnp.roll(x, 1, -1), variables), seed=4)
    found = weight_matching.match(variables, other, spec, jax.random.key(0))
    aligned = weight_matching.apply_permutation(other, spec, found)
    assert weight_matching.distance(variables, aligned) < weight_matching.distance(variables, other)
    again = weight_matching.match(variables, aligned, spec, jax.random.key(1))
    assert all((order == np.arange(len(order))).all() for order in again.values())


def test_several_permuted_copies_become_one_network_again():
    _, variables, _, spec = trace("mlp")
    draws = [weight_matching.random_permutation(variables, spec, jax.random.key(seed)) for seed in (1, 2)]
    copies = [variables, *(weight_matching.apply_permutation(variables, spec, permutation) for permutation in draws)]
    aligned = weight_matching.match_all(copies, spec, jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, rules.average(aligned), variables)


def test_each_is_aligned_with_the_mean_of_the_others():
    model, shape = NETWORKS["mlp"]
    *_, spec = trace("mlp")
    alone = [scattered(model.init(jax.random.key(seed), jnp.ones(shape))) for seed in range(4)]
    to_first = weight_matching.match_all(alone, spec, jax.random.key(0), rounds=0)
    to_all = weight_matching.match_all(alone, spec, jax.random.key(0))

    def spread(networks):
        return sum(weight_matching.distance(network, rules.average(networks)) ** 2 for network in networks)

    assert spread(to_all) < spread(to_first) < spread(alone)
