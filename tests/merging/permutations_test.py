"""Permutations of units that change no output, groups by tracing."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.merging import permutations, weight_matching
from jaxdistill.models import mlp
from permuted import trace


def axes(spec):
    """The permutations of a spec as sets of `(array, axis)`, params alone and without the prefix."""
    return [{(n.removeprefix("params/"), a) for n, a in groups if n.startswith("params/")} for groups in spec.values()]


def test_the_permutations_of_an_mlp():
    *_, spec = trace("mlp")
    assert {frozenset(groups) for groups in axes(spec)} == {
        frozenset({(f"dense{i}/kernel", 1), (f"dense{i}/bias", 0), (after, 0)})
        for i, after in ((1, "dense2/kernel"), (2, "dense3/kernel"), (3, "head/kernel"))
    }


@pytest.mark.slow
def test_a_residual_stream_is_one_permutation_for_each_stage():
    *_, spec = trace("cifar_resnet")
    groups = axes(spec)
    stream = next(group for group in groups if ("stem_conv/kernel", 3) in group)
    assert {
        ("stage1_block0/conv1/kernel", 2),
        ("stage1_block1/conv2/kernel", 3),
        ("stage2_block0/conv1/kernel", 2),
    } <= stream
    assert ("stage2_block0/shortcut_conv/kernel", 2) in stream
    assert ("stage2_block0/shortcut_conv/kernel", 3) not in stream
    assert not any(
        axis in group for group in groups for axis in (("stem_conv/kernel", 2), ("head/kernel", 1), ("head/bias", 0))
    )
    # Three streams, and the inside of six blocks.
    assert len(spec) == 9
    statistics = [
        name for name, _ in spec[next(n for n in spec if "stem_conv" in str(spec[n]))] if "batch_stats" in name
    ]
    assert {"batch_stats/stem_norm/mean", "batch_stats/stem_norm/var"} <= set(statistics)


def test_the_shortcuts_of_bottlenecks_tie_too():
    *_, spec = trace("resnet, bottlenecks")
    # The stem, two inside each of two blocks, and the stream that both add to.
    assert len(spec) == 6
    stream = {
        ("block0/conv3/kernel", 3),
        ("block0/shortcut_norm/scale", 0),
        ("block1/conv1/kernel", 2),
        ("head/kernel", 0),
    }
    assert any(stream <= group for group in axes(spec))


def test_axes_that_other_operations_mix_stay_in_order():
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
