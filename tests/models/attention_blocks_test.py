"""Implementations of attention: equal to the one that holds the scores, in values and gradients, in less memory."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.models import attention, attention_blocks
from jaxdistill.models.attention import Visibility
from jaxdistill.models.decoder import Decoder
from toy_texts import LLAMA, SMALL

LENGTH, BLOCK = 11, 4
"""Three blocks, of which the last is filled up by one."""

MASKS = {
    "": None,
    "right": np.arange(LENGTH) < np.array([[11], [6]]),
    "left": np.arange(LENGTH) >= np.array([[3], [9]]),
}
SEGMENTS = np.array([[0] * 5 + [1] * 6, [0] * 2 + [1] * 1 + [2] * 8])
OPTIONS = [
    dict(zip(("causal", "window", "mask", "segment", "key_heads", "rate"), values, strict=True))
    for values in itertools.product((False, True), (0, 3, 6), MASKS, (False, True), (1, 2, 4), (0.0, 0.3))
]
QUICK = [
    {"causal": True, "window": 6, "mask": "left", "segment": False, "key_heads": 2, "rate": 0.0},
    {"causal": False, "window": 0, "mask": "right", "segment": True, "key_heads": 4, "rate": 0.0},
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(attention_blocks, "BLOCK", BLOCK)


def inputs(options, dtype=jnp.float32):
    keys, heads = jax.random.split(jax.random.key(0), 4), options["key_heads"]
    shapes = (2, LENGTH, 4, 6), (2, LENGTH, heads, 6), (2, LENGTH, heads, 6)
    vectors = [2 * jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=False)]
    mask = MASKS[options["mask"]]
    visibility = Visibility(
        causal=options["causal"],
        window=options["window"],
        token_mask=None if mask is None else jnp.asarray(mask, jnp.int32),
        segment=jnp.asarray(SEGMENTS) if options["segment"] else None,
    )
    dropout = attention_blocks.Dropout(options["rate"], jax.random.key(7)) if options["rate"] else None
    return vectors, visibility, dropout


def dropped(dropout, shape):
    """The factor of every probability, put together from the blocks that the chunked form draws."""
    if dropout is None:
        return jnp.ones((*shape, LENGTH, LENGTH))
    blocks, side = -(-LENGTH // BLOCK), BLOCK
    plan = attention_blocks._Plan(side, blocks, 1.0, dropout.rate)
    draw = functools.partial(attention_blocks._drop, plan, jnp.ones((*shape, side, side)), dropout.key)
    rows = [jnp.concatenate([draw(jnp.array([i, j])) for j in range(blocks)], -1) for i in range(blocks)]
    return jnp.concatenate(rows, -2)[..., :LENGTH, :LENGTH]


def by_scores(query, key, value, visibility, dropout):
    weights = jax.nn.softmax(attention.scores_of(query, key, visibility))
    shape = (2, key.shape[2], query.shape[2] // key.shape[2])
    return attention.mix(weights * dropped(dropout, shape).reshape(weights.shape), value)


def with_gradients(function, options):
    """The output at tokens that attend to a token, and the gradients of a weighted sum of it."""
    vectors, visibility, dropout = inputs(options)
    mask = jnp.any(visibility.mask(LENGTH)[:, 0], -1)[..., None, None]
    if visibility.token_mask is not None:
        mask &= visibility.token_mask[..., None, None] > 0
    weights = jax.random.normal(jax.random.key(9), (2, LENGTH, 4, 6))

    def total(*vectors):
        output = jnp.where(mask, function(*vectors, visibility, dropout), 0.0)
        return jnp.sum(weights * output), output

    (_, output), gradients = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(*vectors)
    return output, *gradients


def check(name, options, monkeypatch):
    if name == "whole":
        monkeypatch.setitem(globals(), "BLOCK", LENGTH)
    sides = with_gradients(getattr(attention_blocks, name), options), with_gradients(by_scores, options)
    for got, expected in zip(*sides, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), [("chunked", QUICK[0]), ("chunked", QUICK[1]), ("whole", QUICK[0])])
def test_each_form_equals_probabilities_and_values(name, options, monkeypatch):
    check(name, options, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["chunked", "whole"])
def test_each_form_equals_probabilities_and_values_with_every_option(name, causal, rate, monkeypatch):
    for options in OPTIONS:
        if (options["causal"], options["rate"]) == (causal, rate):
            check(name, options, monkeypatch)


@pytest.mark.parametrize("name", ["whole", "chunked"])
def test_bfloat16_is_no_less_exact_than_rounded_probabilities(name):
    """The root mean square of the relative errors of the output and of the gradients, by float32."""
    keys = jax.random.split(jax.random.key(1), 4)
    query, key, value, gradient = (jax.random.normal(of, (4, 64, 4, 32), jnp.bfloat16) for of in keys)

    def by_rounded_probabilities(query, key, value, visibility):
        weights = jax.nn.softmax(attention.scores_of(query, key, visibility))
        return attention.mix(weights.astype(value.dtype), value)

    @functools.partial(jax.jit, static_argnums=0)
    def results(function, *vectors):
        output, pull = jax.vjp(lambda *vectors: function(*vectors, Visibility()), *vectors)
        return [x.astype(jnp.float32) for x in (output, *pull(gradient.astype(output.dtype)))]

    vectors = (2 * query, 2 * key, value)
    exact = results(by_rounded_probabilities, *(x.astype(jnp.float32) for x in vectors))

    def error(function):
        pairs = zip(results(function, *vectors), exact, strict=True)
        return math.sqrt(sum(float(jnp.mean((x - y) ** 2) / jnp.mean(y**2)) for x, y in pairs))

    assert error(getattr(attention_blocks, name)) < 1.03 * error(by_rounded_probabilities)


def temporary_bytes(name, read, **fields):
    """Memory of the gradient of a decoder's states, or of its probabilities, over 512 tokens in blocks of 32."""
    model = Decoder(classes=7, **SMALL | LLAMA | {"layers": 1} | fields, attention=name)
    tokens = jax.ShapeDtypeStruct((1, 512), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), tokens)

    def loss(params, tokens):
        return jnp.sum(model.apply({"params": params}, tokens).tap(read) ** 2)

    compiled = jax.jit(jax.grad(loss)).lower(variables["params"], tokens).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
    "fields", [{}, pytest.param({"scan": True, "remat": "block"}, marks=pytest.mark.slow)], ids=str
)
def test_no_matrix_of_scores_exists_unless_it_is_read(monkeypatch, fields):
    monkeypatch.setattr(attention_blocks, "BLOCK", 32)
    scores = SMALL["heads"] * 512 * 512 * 4
    assert temporary_bytes("chunked", "final", **fields) < scores
    assert temporary_bytes("xla", "final", **fields) > scores
    assert temporary_bytes("chunked", "block0/attention", **fields) > scores


@pytest.mark.slow
def test_the_teacher_of_a_small_language_model_needs_little_memory_for_long_texts(monkeypatch):
    """4 texts of 8,192 bytes: 40.8 GiB by the matrix of scores. Compiled, not run."""
    monkeypatch.undo()
    model = Decoder(256, **LLAMA | {"layers": 3, "width": 96, "heads": 4, "hidden": 256, "tied": True})
    tokens = jax.ShapeDtypeStruct((4, 8192), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), tokens)

    def loss(variables, tokens):
        return jnp.sum(jax.nn.logsumexp(model.apply(variables, tokens).logits.dense(), -1))

    compiled = jax.jit(jax.grad(loss)).lower(variables, tokens).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * 2**30
