"""Permutations that change nothing are found by tracing, applied, and undone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.merging import permutations, rules, weight_matching
from jaxdistill.models import cifar_resnet, mlp, residual, resnet, wide_resnet


class Bottlenecks(nn.Module):
    """Bottleneck blocks as in `resnet.ResNet(depth=50)`, small enough for a test."""

    classes: int = 5

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(
            residual.norm(train, dtype=jnp.float32, name="norm")(residual.conv(8, 3, dtype=jnp.float32, name="stem")(x))
        )
        x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for index, stride in enumerate((2, 1)):
            x = nn.relu(residual.Bottleneck(6, stride, name=f"block{index}")(x, train))
        return Output(residual.classifier(self.classes)(residual.pool(x)), {})


NETWORKS = {
    "mlp": (mlp.MLP(5, (24, 16, 12)), (4, 6, 6, 1)),
    "cifar_resnet": (cifar_resnet.CifarResNet(5, depth=14), (2, 8, 8, 3)),
    "wide_resnet": (wide_resnet.WideResNet(5, depth=10, width=2, dropout=0.3), (2, 8, 8, 3)),
    "resnet, basic": (resnet.ResNet(5, depth=18), (1, 32, 32, 3)),
    "resnet, bottlenecks": (Bottlenecks(), (2, 8, 8, 3)),
}
SLOW = {"resnet, basic", "resnet, bottlenecks", "wide_resnet"}


def scattered(variables, seed=9):
    """Moves every number a little, so that no two units are alike and no statistic is a constant."""
    leaves, treedef = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noise = [jax.random.uniform(key, x.shape, minval=-0.2, maxval=0.2) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, [x + 0.3 * n for x, n in zip(leaves, noise, strict=True)])


def made(name):
    model, shape = NETWORKS[name]
    x = jax.random.normal(jax.random.key(0), shape)
    variables = scattered(jax.jit(lambda key: model.init(key, x))(jax.random.key(1)))
    apply = jax.jit(lambda variables, x: model.apply(variables, x).logits)
    return apply, variables, x, permutations.permutations(apply, variables, x)


def slow_ones(names):
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


@pytest.mark.parametrize("name", slow_ones(NETWORKS))
def test_alignment_undoes_a_random_permutation_exactly(name):
    apply, variables, x, spec = made(name)
    permutation = weight_matching.random_permutation(variables, spec, jax.random.key(2))
    moved = weight_matching.apply_permutation(variables, spec, permutation)
    assert weight_matching.distance(variables, moved) > 1
    before = apply(variables, x)
    assert float(jnp.std(before)) > 1e-3
    np.testing.assert_allclose(apply(moved, x), before, rtol=1e-4, atol=1e-5 * float(jnp.abs(before).max()))
    found = weight_matching.match(variables, moved, spec, jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, weight_matching.apply_permutation(moved, spec, found), variables)


def axes(spec):
    """The permutations of a spec as sets of `(array, axis)`, params alone and without the prefix."""
    return [{(n.removeprefix("params/"), a) for n, a in found if n.startswith("params/")} for found in spec.values()]


def test_the_permutations_of_an_mlp():
    *_, spec = made("mlp")
    assert {frozenset(found) for found in axes(spec)} == {
        frozenset({(f"dense{i}/kernel", 1), (f"dense{i}/bias", 0), (after, 0)})
        for i, after in ((1, "dense2/kernel"), (2, "dense3/kernel"), (3, "head/kernel"))
    }


@pytest.mark.slow
def test_a_residual_stream_is_one_permutation_for_each_stage():
    *_, spec = made("cifar_resnet")
    found = axes(spec)
    stream = next(group for group in found if ("stem_conv/kernel", 3) in group)
    assert {
        ("stage1_block0/conv1/kernel", 2),
        ("stage1_block1/conv2/kernel", 3),
        ("stage2_block0/conv1/kernel", 2),
    } <= stream
    assert ("stage2_block0/shortcut_conv/kernel", 2) in stream
    assert ("stage2_block0/shortcut_conv/kernel", 3) not in stream
    assert not any(
        axis in group for group in found for axis in (("stem_conv/kernel", 2), ("head/kernel", 1), ("head/bias", 0))
    )
    # Three streams, and the inside of six blocks.
    assert len(spec) == 9
    statistics = [
        name for name, _ in spec[next(n for n in spec if "stem_conv" in str(spec[n]))] if "batch_stats" in name
    ]
    assert {"batch_stats/stem_norm/mean", "batch_stats/stem_norm/var"} <= set(statistics)


def test_the_shortcuts_of_bottlenecks_tie_too():
    *_, spec = made("resnet, bottlenecks")
    # The stem, two inside each of two blocks, and the stream that both add to.
    assert len(spec) == 6
    stream = {
        ("block0/conv3/kernel", 3),
        ("block0/shortcut_norm/scale", 0),
        ("block1/conv1/kernel", 2),
        ("head/kernel", 0),
    }
    assert any(stream <= group for group in axes(spec))


def test_what_is_not_understood_stays_as_it_is():
    class Sorted(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = jnp.cumsum(nn.Dense(6, name="ordered")(x), -1)
            x = nn.Dense(8, name="divided")(x).reshape(x.shape[0], 2, 4).sum(1)
            return nn.Dense(3, name="head")(nn.relu(nn.Dense(5, name="free")(x)))

    x = jnp.ones((2, 4))
    variables = Sorted().init(jax.random.key(0), x)
    spec = permutations.permutations(Sorted().apply, variables, x)
    assert axes(spec) == [{("free/bias", 0), ("free/kernel", 1), ("head/kernel", 0)}]


def test_units_of_a_loop_stay_as_they_are():
    """Its outputs are its next inputs: the axes of its kernel are one, and not two that could move apart."""

    def looped(variables, x):
        h = x @ variables["params"]["first"]
        h, _ = jax.lax.scan(lambda h, _: (jnp.tanh(h @ variables["params"]["again"]), None), h, None, 3)
        return h @ variables["params"]["head"]

    params = {"first": jnp.ones((4, 6)), "again": jnp.ones((6, 6)), "head": jnp.ones((6, 3))}
    with pytest.raises(UserError, match="must have units whose order is free"):
        permutations.permutations(looped, {"params": params}, jnp.ones((2, 4)))


def test_depthwise_convolutions_keep_their_channels_together():
    class Depthwise(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(6, (1, 1), name="first")(x))
            x = nn.relu(nn.Conv(6, (3, 3), feature_group_count=6, name="depthwise")(x))
            return nn.Dense(3, name="head")(jnp.mean(x, (1, 2)))

    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 2))
    variables = Depthwise().init(jax.random.key(0), x)
    spec = permutations.permutations(Depthwise().apply, variables, x)
    assert len(spec) == 1
    assert ("depthwise/kernel", 3) in axes(spec)[0]
    moved = weight_matching.apply_permutation(
        variables, spec, weight_matching.random_permutation(variables, spec, jax.random.key(1))
    )
    np.testing.assert_allclose(Depthwise().apply(moved, x), Depthwise().apply(variables, x), rtol=1e-5, atol=1e-6)


def test_a_linear_classifier_has_nothing_to_permute():
    model, x = mlp.MLP(3, ()), jnp.ones((2, 4))
    with pytest.raises(UserError, match="must have units whose order is free.*cifar_resnet"):
        permutations.permutations(lambda v, x: model.apply(v, x).logits, model.init(jax.random.key(0), x), x)


def test_alignment_never_moves_a_network_away():
    _, variables, _, spec = made("mlp")
    other = scattered(jax.tree.map(lambda x: jnp.roll(x, 1, -1), variables), seed=4)
    found = weight_matching.match(variables, other, spec, jax.random.key(0))
    aligned = weight_matching.apply_permutation(other, spec, found)
    assert weight_matching.distance(variables, aligned) < weight_matching.distance(variables, other)
    again = weight_matching.match(variables, aligned, spec, jax.random.key(1))
    assert all((order == np.arange(len(order))).all() for order in again.values())


def test_several_permuted_copies_become_one_network_again():
    _, variables, _, spec = made("mlp")
    draws = [weight_matching.random_permutation(variables, spec, jax.random.key(seed)) for seed in (1, 2)]
    copies = [variables, *(weight_matching.apply_permutation(variables, spec, permutation) for permutation in draws)]
    aligned = weight_matching.match_all(copies, spec, jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, rules.average(aligned), variables)


def test_each_is_aligned_with_the_mean_of_the_others():
    model, shape = NETWORKS["mlp"]
    *_, spec = made("mlp")
    alone = [scattered(model.init(jax.random.key(seed), jnp.ones(shape))) for seed in range(4)]
    to_first = weight_matching.match_all(alone, spec, jax.random.key(0), rounds=0)
    to_all = weight_matching.match_all(alone, spec, jax.random.key(0))

    def spread(networks):
        return sum(weight_matching.distance(network, rules.average(networks)) ** 2 for network in networks)

    assert spread(to_all) < spread(to_first) < spread(alone)
