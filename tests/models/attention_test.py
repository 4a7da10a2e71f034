"""Masks, and the choice of an implementation of attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.models import attention
from jaxdistill.models.attention import Setting, Visibility
from jaxdistill.models.decoder import Decoder
from toy_texts import SMALL

BLOCK = 4


def test_masks_by_hand():
    mask = jnp.array([[1, 1, 0], [0, 1, 1]])
    causal = Visibility(causal=True, token_mask=mask).mask(3)[:, 0].astype(int)
    np.testing.assert_array_equal(causal, [[[1, 0, 0], [1, 1, 0], [1, 1, 0]], [[0, 0, 0], [0, 1, 0], [0, 1, 1]]])
    np.testing.assert_array_equal(Visibility(token_mask=mask).mask(3)[1, 0], [[0, 1, 1]] * 3)
    window = Visibility(causal=True, window=2).mask(3)[0, 0]
    np.testing.assert_array_equal(window, [[1, 0, 0], [1, 1, 0], [0, 1, 1]])
    segments = Visibility(segment=jnp.array([[0, 1, 1]])).mask(3)[0, 0]
    np.testing.assert_array_equal(segments, [[1, 0, 0], [0, 1, 1], [0, 1, 1]])


@pytest.mark.parametrize(("causal", "window"), [(False, 0), (True, 0), (True, 1), (True, 2), (True, 6), (False, 3)])
def test_blocks_without_a_visible_pair_are_left_out(causal, window):
    visibility = Visibility(causal=causal, window=window)
    blocks = visibility.mask(12)[0, 0].reshape(3, BLOCK, 3, BLOCK).any((1, 3))
    np.testing.assert_array_equal(visibility.visible_blocks(3, BLOCK), np.argwhere(blocks))


LONG = Setting(attention.FUSED_FROM, 64, jnp.bfloat16)


def on(platform):
    """A context in which programs are for a platform."""
    device = jax.sharding.AbstractDevice("any", None, platform)
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device))


@pytest.mark.parametrize(
    ("platform", "setting", "expected"),
    [
        ("cpu", LONG._replace(length=attention.FUSED_FROM - 1), "xla"),
        ("cpu", LONG, "chunked"),
        ("tpu", LONG._replace(length=attention.FUSED_FROM - 1), "xla"),
        ("tpu", LONG, "splash"),
        ("tpu", LONG._replace(drops=True), "chunked"),
        ("gpu", LONG, "chunked"),
    ],
)
def test_length_and_device_choose(platform, setting, expected):
    """A GPU that is not there has no cuDNN to compile for."""
    with on(platform):
        assert attention.choose("auto", setting) == expected


@pytest.mark.parametrize(
    ("platform", "name", "setting", "message"),
    [
        ("cpu", "splash", LONG, "got 'splash', which needs a TPU; this is for a cpu. Set 'auto' or 'chunked'"),
        ("cpu", "cudnn", LONG, "got 'cudnn', which needs an NVIDIA GPU; this is for a cpu"),
        ("tpu", "splash", LONG._replace(drops=True), "got 'splash', which has no dropout of probabilities"),
        ("gpu", "cudnn", LONG, "got 'cudnn', which is compiled only where the GPU is"),
    ],
)
def test_an_implementation_that_is_not_possible_is_refused(platform, name, setting, message):
    with on(platform), pytest.raises(UserError, match=message):
        attention.choose(name, setting)
    assert attention.choose("chunked", setting) == "chunked"


def test_an_unknown_implementation_is_refused():
    with pytest.raises(UserError, match="attention must be an implementation of attention, got 'chunks'. Did you"):
        Decoder(classes=7, **SMALL, attention="chunks")


def test_the_plan_names_the_implementation():
    model, length = Decoder(classes=7, **SMALL), attention.FUSED_FROM
    tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
    output, _ = jax.eval_shape(lambda tokens: model.init_with_output(jax.random.key(0), tokens), tokens)
    assert model.clone(attention="xla").describe(output) == "attention xla of 512 positions"
    assert model.describe(output) == "attention chunked of 512 positions"
