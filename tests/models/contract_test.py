"""Promises of every model family, on its smallest member."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.decoder import Decoder
from jaxdistill.models.encoder import Encoder
from jaxdistill.models.mlp import MLP
from jaxdistill.models.resnet import ResNet
from jaxdistill.models.vit import ViT
from jaxdistill.models.wide_resnet import WideResNet

SMALL = {
    "mlp": MLP(3, widths=(5, 4)),
    "cifar_resnet": CifarResNet(3, depth=8),
    "resnet": ResNet(3, depth=18),
    "wide_resnet": WideResNet(3, depth=10, width=1),
    "vit": ViT(3, patch=4, layers=2, width=8, heads=2),
    "encoder": Encoder(3, vocabulary=5, layers=2, width=8, heads=2),
    "decoder": Decoder(3, layers=2, width=8, heads=2, tied=False),
}
CLASSIFIERS = [name for name in SMALL if name != "decoder"]
CONVOLUTIONAL = [name for name in CLASSIFIERS if name not in ("mlp", "vit", "encoder")]
IMAGES = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
INPUTS = dict.fromkeys(SMALL, IMAGES) | dict.fromkeys(("encoder", "decoder"), jnp.array([[0, 1, 2, 1]] * 4))


@functools.cache
def initialised(name):
    variables = jax.eval_shape(SMALL[name].init, jax.random.key(0), INPUTS[name])
    # Drawn by numpy, since compiling an initialisation takes seconds; variances must be positive.
    draw, low = np.random.default_rng(0), {"params": -0.3, "batch_stats": 0.1}
    return {
        name: jax.tree.map(lambda leaf, low=low[name]: jnp.asarray(draw.uniform(low, 0.3, leaf.shape)), tree)
        for name, tree in variables.items()
    }


@functools.cache
def output(name):
    return jax.jit(SMALL[name].apply)(initialised(name), INPUTS[name])


@pytest.mark.parametrize("name", SMALL)
def test_class_is_named_as_its_file(name):
    model = type(SMALL[name])
    assert model.__module__ == f"jaxdistill.models.{name}"
    assert model.__name__.lower() == name.replace("_", "")


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_output_is_finite_float32_and_logits_are_the_head_of_pooled(name):
    result = output(name)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
    assert result.logits.dtype == jnp.float32
    assert result.logits.shape == (4, 3)
    head = initialised(name)["params"]["head"]
    expected = np.asarray(result.tap("pooled")) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(result.logits, expected, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_computes_in_it_and_keeps_variables_in_float32(name):
    model = SMALL[name].clone(dtype=jnp.bfloat16)
    result, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), INPUTS[name])
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    exact = {tap for tap in result.taps if tap == "pooled" or tap.endswith("/scores")}
    assert {result.taps[tap].dtype for tap in exact} == {jnp.dtype("float32")}
    assert {result.taps[tap].dtype for tap in result.taps.keys() - exact} == {jnp.dtype("bfloat16")}
    if name in CLASSIFIERS:
        assert result.logits.dtype == jnp.float32


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("train", [True, False])
def test_batch_statistics_change_in_training_only(name, train):
    model = SMALL[name]

    def changed(variables):
        _, new = model.apply(variables, IMAGES, train=train, mutable=["batch_stats"])
        return jax.tree.map(lambda a, b: jnp.any(a != b), new["batch_stats"], variables["batch_stats"])

    leaves = jax.tree.leaves(jax.jit(changed)(initialised(name)))
    assert len(leaves) >= 14
    assert all(bool(leaf) == train for leaf in leaves)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_pooled_is_the_mean_of_the_last_activation_and_blocks_end_in_their_stage(name):
    taps = output(name).taps
    stages = sorted(tap for tap in taps if tap.startswith("stage") and "/" not in tap)
    assert jnp.any(taps[f"{stages[-1]}/preact"] < 0)
    last = nn.relu(taps[f"{stages[-1]}/preact"])
    np.testing.assert_allclose(taps["pooled"], np.mean(last, axis=(1, 2)), rtol=1e-5)
    for stage in stages:
        blocks = sorted(tap for tap in taps if tap.startswith(f"{stage}/block"))
        np.testing.assert_array_equal(taps[blocks[-1]], taps[stage])


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_no_bias_before_a_normalisation(name):
    shapes = jax.eval_shape(SMALL[name].init, jax.random.key(0), IMAGES)["params"]
    names = [core.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    assert not [path for path in names if "conv" in path and not path.endswith("kernel")]
