"""What is made of the answers of a cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.config.schema import CacheConfig
from jaxdistill.core import Output, TopK, Unembedding
from jaxdistill.losses import divergence, topk
from jaxdistill.modules import drawn_classes
from jaxdistill.modules.drawn_classes import DrawnClasses
from jaxdistill.networks import Cached
from jaxdistill.networks.cached import with_uniform_tail
from jaxdistill.stages.output_writer import shared_arrays, stored_arrays

CLASSES = 7
LOGITS = 3 * jax.random.normal(jax.random.key(0), (5, CLASSES))


def asked(what, k=3, tail="uniform", dtype="float32", taps=()):
    """What a cached network says that stored the logits, and a tap."""
    said = Output(LOGITS, {"pooled": LOGITS[:, :2]})
    kept = stored_arrays(said, CacheConfig(store=what, k=k, taps=taps), jnp.arange(5))
    batch = {f"cached/net/{n}": x if n == "ids" else x.astype(dtype) for n, x in kept.items()}
    batch |= {"cached/other/logits": jnp.zeros((5, 2)), "image": jnp.zeros((5, 1))}
    output, changed = Cached("net", CLASSES, tail)({}, batch, {}, None)
    assert changed == {}
    return output


def test_logits_and_taps_are_what_was_stored():
    output = asked("logits", taps=("pooled",))
    np.testing.assert_array_equal(output.logits, LOGITS)
    np.testing.assert_array_equal(output.tap("pooled"), LOGITS[:, :2])
    assert [*asked("logits").taps] == []
    half = asked("logits", dtype="float16").logits
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, LOGITS, rtol=2**-11)


def test_a_bucket_is_exact():
    output = asked("top_k", tail="bucket")
    assert isinstance(output.logits, TopK)
    assert output.logits.ids.dtype == jnp.int32
    for ours, theirs in zip(jax.tree.leaves(output.logits), jax.tree.leaves(topk.from_logits(LOGITS, 3)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("k", [CLASSES - 1, CLASSES, CLASSES + 3])
def test_spread_is_exact_where_one_class_is_left_or_none(k):
    np.testing.assert_allclose(asked("top_k", k).logits, jax.nn.log_softmax(LOGITS), rtol=1e-5, atol=1e-5)


def test_spread_shares_what_is_left_evenly():
    logs = np.asarray(asked("top_k", 2).logits)
    exact = np.asarray(jax.nn.log_softmax(LOGITS))
    np.testing.assert_allclose(np.exp(logs).sum(-1), 1, rtol=1e-5)
    for ours, theirs in zip(logs, exact, strict=True):
        top = np.argsort(theirs)[-2:]
        np.testing.assert_allclose(ours[top], theirs[top], rtol=1e-5)
        others = np.delete(np.arange(CLASSES), top)
        np.testing.assert_allclose(ours[others], np.log(np.exp(theirs[others]).sum() / 5), rtol=1e-4)
    # What is not known makes the target flatter, never sharper.
    assert (divergence.kl(LOGITS, jnp.asarray(logs)) > 0).all()


def test_a_tail_of_no_probability_has_finite_gradients():
    said = TopK(jnp.zeros((1, 1)), jnp.zeros((1, 1), jnp.int32), jnp.full((1,), -200.0), CLASSES)
    grad = jax.grad(lambda s: jnp.sum(divergence.kl(with_uniform_tail(said), s)))(jnp.ones((1, CLASSES)))
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_hidden_states_give_the_logits_of_the_network_that_output_them(dtype):
    """To the bit in the dtype of the network; int8 to half a level of a state's largest number."""
    kind = jnp.float32 if dtype == "float32" else jnp.bfloat16
    draw = np.random.default_rng(0).normal
    hidden, kernel = jnp.asarray(draw(size=(2, 3, 16)), kind), jnp.asarray(draw(size=(16, CLASSES)), kind)
    live = Output(Unembedding(hidden, kernel, jnp.arange(CLASSES, dtype=jnp.float32)))
    spec = CacheConfig(store="hidden", dtype=dtype)
    stored, shared = stored_arrays(live, spec, jnp.arange(2)), shared_arrays(live, spec)
    assert sum(x.nbytes for x in stored.values()) == 2 * 3 * {"float32": 64, "bfloat16": 32, "int8": 20}[dtype]
    source = Cached("net", CLASSES, shared=jax.eval_shape(lambda: shared))
    variables = source.init(jax.random.key(0), {}, {}, {})
    assert jax.tree.map(jnp.shape, variables) == {"unembedding": {"kernel": (16, CLASSES), "bias": (CLASSES,)}}
    assert source.partition(variables) == ({}, {}, variables)
    batch = {f"cached/net/{name}": x for name, x in stored.items()}
    logits = source({"unembedding": shared}, batch, {}, None)[0].logits
    if dtype == "int8":
        bound = np.abs(np.float32(hidden)).max(-1) / 254 * (1 + 2**-7) + np.abs(np.float32(hidden)).max(-1) * 2**-9
        assert (np.abs(np.float32(logits.hidden) - np.float32(hidden)).max(-1) <= bound).all()
    else:
        np.testing.assert_array_equal(core.dense(logits), core.dense(live.logits))
        assert logits.hidden.dtype == kind


def test_drawn_classes_depend_on_the_index_of_the_example_alone():
    spec, logits = CacheConfig(store="sampled", k=4), LOGITS.reshape(5, 1, CLASSES)
    whole = stored_arrays(Output(logits), spec, jnp.arange(5))
    part = stored_arrays(Output(logits[3:]), spec, jnp.arange(3, 5))
    assert all(np.array_equal(whole[name][3:], part[name]) for name in whole)
    batch = {f"cached/net/{name}": x for name, x in whole.items()}
    logits = Cached("net", CLASSES)({}, batch, {}, None)[0].logits
    assert isinstance(logits, DrawnClasses)
    exact = jnp.sum(jax.nn.softmax(LOGITS) * jax.nn.log_softmax(LOGITS), -1)
    np.testing.assert_allclose(logits.negative_entropy[:, 0], exact, rtol=1e-5)
    assert drawn_classes.kl(logits, LOGITS.reshape(5, 1, CLASSES)).shape == (5, 1)
