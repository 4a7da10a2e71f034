"""The rules of merging, by hand on small trees, and that copies of one network merge to it under every rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.merging import rules
from jaxdistill.merging.trees import distance


def tree(*numbers):
    return {"a": {"kernel": jnp.float32(numbers[:-1])}, "b": jnp.float32(numbers[-1:])}


def numbers(tree):
    return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(tree)])


def network(seed):
    """Variables of a network with batch statistics, none of them a round number."""
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "params": {"kernel": jax.random.normal(keys[0], (5, 7)), "bias": jax.random.normal(keys[1], (7,))},
        "batch_stats": {"mean": jax.random.normal(keys[2], (7,)), "var": jnp.exp(jax.random.normal(keys[3], (7,)))},
    }


FISHERS = [
    jax.tree.map(lambda x, s=s: jax.random.uniform(jax.random.key(s), x.shape), network(0)["params"]) for s in (4, 5, 6)
]
RULES = {
    "average": rules.average,
    "weighted average": functools.partial(rules.average, weights=(0.3, 1.2, 0.7)),
    "greedy soup": lambda trees: rules.greedy_soup(trees, lambda tree: 0.7).tree,
    "fisher": lambda trees: rules.fisher_weighted(trees, FISHERS),
    "slerp": rules.slerp,
    "weighted slerp": functools.partial(rules.slerp, weights=(0.3, 1.2, 0.7)),
    "task arithmetic": rules.task_arithmetic,
    "task arithmetic, scaled": functools.partial(rules.task_arithmetic, scale=2.4),
    "ties": rules.ties,
    "dare": functools.partial(rules.dare, key=jax.random.key(3), drop=0.7),
    "dare and ties": functools.partial(rules.dare_ties, key=jax.random.key(3), drop=0.7),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_copies_of_one_network_merge_to_it_bit_for_bit(rule):
    one = network(1)
    merged = rules.with_statistics(rule, [one] * 3)
    assert jax.tree.structure(merged) == jax.tree.structure(one)
    jax.tree.map(np.testing.assert_array_equal, merged, one)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_other_networks_count_and_dtypes_stay(rule):
    trees = [jax.tree.map(lambda x: x.astype(jnp.bfloat16), network(seed)["params"]) for seed in (1, 2, 3)]
    merged = rule(trees)
    assert {x.dtype for x in jax.tree.leaves(merged)} == {jnp.dtype(jnp.bfloat16)}
    assert float(distance(merged, trees[0])) > 0.1


@pytest.mark.parametrize("rule", [rules.ties, rules.task_arithmetic])
def test_copies_about_a_given_base_come_back_whole_at_full_density(rule):
    one, base = network(1)["params"], network(2)["params"]
    full = functools.partial(rule, density=1.0) if rule is rules.ties else rule
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), full([one] * 4, base), one)


def test_statistics_are_averaged_whatever_the_rule():
    networks = [network(1), network(2)]
    merged = rules.with_statistics(lambda trees: trees[1], networks, weights=(1, 3))
    expected = 0.25 * networks[0]["batch_stats"]["var"] + 0.75 * networks[1]["batch_stats"]["var"]
    np.testing.assert_allclose(merged["batch_stats"]["var"], expected, rtol=1e-6)
    assert merged["params"] is networks[1]["params"]


def test_averages_by_hand():
    trees = [tree(1, 2, 3), tree(3, 6, -3)]
    np.testing.assert_allclose(numbers(rules.average(trees)), [2, 4, 0])
    np.testing.assert_allclose(numbers(rules.average(trees, (3, 1))), [1.5, 3, 1.5])


def test_a_soup_keeps_what_does_not_make_it_worse():
    trees = [tree(0, 0, 1), tree(0, 0, 4), tree(0, 0, 9), tree(0, 0, 5)]
    # Alone they score -4, -1, -4, 0: 5 is first; 4 makes it worse; 1 too; 9 too.
    soup = rules.greedy_soup(trees, lambda t: -abs(float(t["b"][0]) - 5))
    assert (soup.members, soup.score, soup.member_scores) == ((3,), 0.0, (-4.0, -1.0, -4.0, 0.0))
    # 4 is the best, then 9 makes 6.5, no better; then 1 makes 2.5, no worse than 4 is about 3.25.
    soup = rules.greedy_soup(trees[:3], lambda t: -abs(float(t["b"][0]) - 3.25))
    assert (soup.members, soup.score) == ((1, 0), -0.75)
    np.testing.assert_allclose(numbers(soup.tree), [0, 0, 2.5])


def test_a_soup_without_a_number_is_never_kept():
    trees = [tree(0, 0, 1), tree(0, 0, 2)]
    soup = rules.greedy_soup(trees, lambda t: float("nan") if float(t["b"][0]) != 2 else 0.5)
    assert soup.members == (1,)


def test_fisher_weights_by_hand():
    trees, fishers = [tree(1, 1, 1), tree(5, 5, 5)], [tree(3, 0, 0), tree(1, 4, 0)]
    merged = rules.fisher_weighted(trees, fishers, normalize=False)
    # 3 to 1; nothing but the floor to 4; nothing at all: the average.
    np.testing.assert_allclose(numbers(merged), [2, 5, 3], rtol=1e-5)
    merged = rules.fisher_weighted(trees, fishers, weights=(1, 3), normalize=False)
    np.testing.assert_allclose(numbers(merged), [3, 5, 4], rtol=1e-5)
    larger = [fishers[0], jax.tree.map(lambda f: 1e3 * f, fishers[1])]
    expected = [(3 / 3 + 5 / 17**0.5) / (3 / 3 + 1 / 17**0.5), 5, 3]
    np.testing.assert_allclose(numbers(rules.fisher_weighted(trees, larger)), expected, rtol=1e-5)


def test_slerp_by_hand():
    left, right = {"w": jnp.float32([1, 0])}, {"w": jnp.float32([0, 1])}
    np.testing.assert_allclose(rules.slerp([left, right])["w"], [0.5**0.5] * 2, rtol=1e-6)
    at_30_degrees = rules.slerp([left, right], (2, 1))["w"]
    np.testing.assert_allclose(at_30_degrees, [3**0.5 / 2, 0.5], rtol=1e-6)
    # Equal parts of the way from three: the third is a third of the way from the middle of the others.
    third = {"w": jnp.float32([0.5**0.5, 0.5**0.5])}
    np.testing.assert_allclose(rules.slerp([left, right, third])["w"], third["w"], rtol=1e-6)


def test_slerp_is_the_straight_line_where_there_is_no_arc():
    left, right = {"w": jnp.float32([1, 2])}, {"w": jnp.float32([2, 4])}
    np.testing.assert_allclose(rules.slerp([left, right])["w"], [1.5, 3])
    np.testing.assert_allclose(rules.slerp([left, {"w": jnp.float32([-1, -2])}])["w"], [0, 0], atol=1e-6)
    np.testing.assert_allclose(rules.slerp([left, {"w": jnp.zeros(2)}])["w"], [0.5, 1])


def test_task_arithmetic_by_hand():
    base, trees = tree(1, 1, 1), [tree(2, 1, 0), tree(4, 3, 1)]
    np.testing.assert_allclose(numbers(rules.task_arithmetic(trees, base)), [3, 2, 0.5])
    np.testing.assert_allclose(numbers(rules.task_arithmetic(trees, base, scale=2 * 0.3)), [2.2, 1.6, 0.7], rtol=1e-6)


def test_ties_by_hand():
    base = tree(*[1] * 6)
    trees = [tree(5, -2, 1.5, 1, 1.2, 0), tree(3, 3, 1.5, 1, 1, 0.9), tree(1.1, 5, 0.9, 1, 1.1, 3)]
    # Changes: [4 -3 .5 0 .2 -1], [2 2 .5 0 0 -.1], [.1 4 -.1 0 .1 2]; half of each is kept:
    #          [4 -3  0 0  0 -1], [2 2 .5 0 0   0], [.1 4  0 0  0 2], and 0.1 thrice is a tie in the third.
    merged = rules.ties(trees, base, density=1 / 3)
    # Two are kept: [4 -3 ...], [2 2 ...], [. 4 . . . 2]: means 3, (2 + 4) / 2, 2.
    np.testing.assert_allclose(numbers(merged), [4, 4, 1, 1, 1, 3])
    np.testing.assert_allclose(numbers(rules.ties(trees, base, density=1 / 3, scale=0.5)), [2.5, 2.5, 1, 1, 1, 2])
    whole = rules.ties(trees, base, density=1.0)
    np.testing.assert_allclose(numbers(whole), [1 + 6.1 / 3, 4, 1.5, 1, 1.15, 3], rtol=1e-6)


def test_ties_about_the_mean_of_two_is_their_average():
    trees = [network(1)["params"], network(2)["params"]]
    jax.tree.map(np.testing.assert_array_equal, rules.ties(trees, density=1.0), rules.average(trees))


def test_dare_rescales_the_remaining_entries():
    base = {"w": jnp.ones(4000), "v": jnp.ones(4000)}
    trees = [jax.tree.map(lambda x, c=c: x + c, base) for c in (1.0, 2.0)]
    first, second = rules.drop_and_rescale(trees, jax.random.key(0), base, drop=0.75)
    assert set(np.unique(first["w"])) == {1.0, 5.0}
    np.testing.assert_allclose(np.mean(first["w"] - 1), 1.0, atol=0.1)
    np.testing.assert_allclose(np.mean(second["w"] - 1), 2.0, atol=0.2)
    masks = [np.asarray(x != 1) for x in (first["w"], first["v"], second["w"])]
    assert all(0.55 < np.mean(a == b) < 0.7 for a, b in ((masks[0], masks[1]), (masks[0], masks[2])))
    again = rules.drop_and_rescale(trees, jax.random.key(0), base, drop=0.75)[0]
    np.testing.assert_array_equal(first["w"], again["w"])
    jax.tree.map(np.testing.assert_array_equal, rules.drop_and_rescale(trees, jax.random.key(0), base, 0.0), trees)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rules.average([]), "trees must be one or more"),
        (lambda: rules.average([tree(1, 2)] * 2, (1,)), "a number of 0 or more for each"),
        (lambda: rules.average([tree(1, 2)] * 2, (0, 0)), "not all 0"),
        (lambda: rules.average([tree(1, 2), tree(1, 2, 3)]), "tree 1 must have the shapes of tree 0.*a/kernel"),
        (lambda: rules.average([tree(1, 2), {"a": jnp.ones(1)}]), "tree 1 must have the shapes of tree 0.*a/kernel"),
        (
            lambda: rules.average([{"n": jnp.int32([1])}] * 2),
            "n must be of floating-point numbers to be merged, got int32",
        ),
        (lambda: rules.ties([tree(1, 2)] * 2, density=0.0), r"density must be in \(0, 1\], .*got 0.0"),
        (
            lambda: rules.drop_and_rescale([tree(1, 2)], jax.random.key(0), tree(1, 2), 1.0),
            r"drop must be in \[0, 1\), got 1.0",
        ),
        (
            lambda: rules.fisher_weighted([tree(1, 2)], [tree(1, 2)], floor=0.0),
            "floor must be greater than 0 and finite, got 0.0",
        ),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(UserError, match=message):
        call()
