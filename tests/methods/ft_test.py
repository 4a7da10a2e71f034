"""Factor transfer: values by hand, shapes of translator and paraphraser, and refused settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.methods.fitnet import FitNet
from jaxdistill.methods.ft import FT, ft
from jaxdistill.modules.heads import Paraphraser

BATCH = {"mask": jnp.ones(2)}


def noise(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_by_hand():
    """Factors (.6, .8) and (.8, .6), over all places and channels of an example together."""
    for shape in ((1, 1, 2, 1), (1, 1, 1, 2)):
        student, teacher = jnp.array([3.0, 4.0]).reshape(shape), jnp.array([8.0, 6.0]).reshape(shape)
        np.testing.assert_allclose(ft(student, teacher, 1.0), [0.2], rtol=1e-5)
        np.testing.assert_allclose(ft(student, teacher, 2.0), [0.04], rtol=1e-5)


def test_maps_of_attention_by_hand():
    """Channels (3, 0) and (0, 2 sqrt 2) at two places: means of squares 4.5 and 4."""
    student = jnp.array([[3.0, 0.0], [0.0, 8**0.5]]).reshape(1, 1, 2, 2)
    teacher = jnp.ones((1, 1, 2, 2))
    a, b = 4.5 / (4.5**2 + 4**2) ** 0.5, 4 / (4.5**2 + 4**2) ** 0.5
    expected = (abs(a - 0.5**0.5) + abs(b - 0.5**0.5)) / 2
    np.testing.assert_allclose(ft(student, teacher, 1.0, maps=2), [expected], rtol=1e-4)


def test_the_larger_factor_is_averaged_to_the_smaller():
    small = noise(2, 2, 2, 3)
    large = jnp.repeat(jnp.repeat(small, 2, 1), 2, 2)
    np.testing.assert_allclose(ft(large, small, 1.0), [0, 0], atol=1e-6)


def test_translator_outputs_the_channels_of_the_factor():
    left, factor = Output(None, {"stage3": noise(2, 4, 4, 6)}), Output(None, {"factor": noise(2, 2, 2, 5, seed=1)})
    params = FT().init(jax.random.key(0), left, factor, BATCH)["params"]
    shapes = {name: param["kernel"].shape for name, param in params.items()}
    expected = {"conv0": (3, 3, 6, 6), "conv1": (3, 3, 6, 5), "conv2": (3, 3, 5, 5)}
    assert shapes == {f"stage3_factor_{name}": shape for name, shape in expected.items()}


def test_a_power_below_one_is_refused_and_normalisation_needs_the_batch():
    FT(power=2.0).check()
    with pytest.raises(UserError, match="power"):
        FT(power=0.5).check()
    with pytest.raises(UserError, match="maps"):
        FT(maps=-1).check()
    assert FT(norm=True).needs_whole_batch
    assert not FT().needs_whole_batch


@pytest.mark.parametrize(("share", "channels"), [(0.5, 3), (1.5, 9), (0.01, 1)])
def test_the_paraphraser_narrows_and_reconstructs(share, channels):
    x = noise(2, 4, 4, 6)
    actual, _ = Paraphraser(share).init_with_output(jax.random.key(0), x)
    assert actual.tap("factor").shape == (2, 4, 4, channels)
    assert actual.tap("reconstruction").shape == x.shape
    np.testing.assert_allclose(actual.logits, jnp.mean(actual.tap("factor"), (1, 2)))


def test_the_paraphraser_learns_from_its_own_reconstruction():
    """Plain descent on FitNet's error without an adapter, and all six convolutions learn."""
    x, method = noise(2, 4, 4, 6), FitNet(layers="reconstruction=stage3", adapter=False)
    params = Paraphraser().init(jax.random.key(0), x)["params"]

    def loss(params):
        values = method.apply({}, Paraphraser().apply({"params": params}, x), Output(None, {"stage3": x}), BATCH)
        return core.mean(values, BATCH["mask"])

    step = jax.jit(jax.value_and_grad(loss))
    first, grads = step(params)
    assert len(grads) == 6
    assert all(jnp.any(grad["kernel"] != 0) for grad in grads.values())
    for _ in range(20):
        params = jax.tree.map(lambda p, g: p - g, params, step(params)[1])
    assert step(params)[0] < 0.95 * first


def test_a_paraphraser_with_statistics_changes_them_in_training_only():
    x, head = 3 + noise(2, 4, 4, 6), Paraphraser(norm=True)
    variables = head.init(jax.random.key(0), x)
    _, trained = head.apply(variables, x, train=True, mutable=["batch_stats"])
    _, spoken = head.apply(variables, x, train=False, mutable=["batch_stats"])
    before, after = variables["batch_stats"], trained["batch_stats"]
    assert len(after) == 6
    assert all(jnp.any(after[name]["mean"] != before[name]["mean"]) for name in after)
    jax.tree.map(np.testing.assert_array_equal, spoken["batch_stats"], before)
