"""Encoders: published sizes, padding, and methods of text."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.core import Unembedding
from jaxdistill.errors import UserError
from jaxdistill.models.encoder import Encoder
from toy_texts import LENGTH, SMALL, TOKENS, VOCABULARY, apply, drawn, shapes

HERE = SMALL | {"vocabulary": VOCABULARY}
ROBERTA = {"vocabulary": 50_265, "length": 514, "first": 2, "segments": 1, "epsilon": 1e-5}
ELECTRA = {"width": 256, "heads": 4, "embed_width": 128, "pooler": "gelu"}
MASK = jnp.ones(TOKENS.shape).at[0, 3:].set(0).at[2, 5:].set(0)


@functools.cache
def small(predicts, **fields):
    model = Encoder(VOCABULARY if predicts == "token" else 3, predicts, **HERE, length=8, **fields)
    return model, drawn(model, TOKENS)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "published"),
    [
        ({}, 109_482_240),  # bert-base-uncased
        ({"layers": 24, "width": 1024, "heads": 16}, 335_141_888),  # bert-large-uncased
        (ROBERTA, 124_645_632),  # roberta-base
        ({"layers": 6, "segments": 0}, 66_362_880 + 768 * 769),  # distilbert-base-uncased has no pooler
        (ELECTRA, 13_483_008 + 256 * 257),  # electra-small-discriminator, which has no pooler either
    ],
)
def test_parameters_as_published_without_the_classifier(fields, published):
    actual = shapes(Encoder(2, scan=True, **fields), TOKENS)
    assert core.count(actual) - core.count(actual["head"]) == published


def test_parameters_of_the_masked_language_model_as_published():
    assert core.count(shapes(Encoder(30_522, "token", scan=True), TOKENS)) == 109_514_298


def test_taps():
    taps = jax.eval_shape(small("class")[0].init_with_output, jax.random.key(0), TOKENS)[0].taps
    expected = {"embed": (4, LENGTH, 8), "final": (4, LENGTH, 8), "pooled": (4, 8)}
    for block in ("block0", "block1"):
        expected |= {f"{block}/{name}": (4, LENGTH, 4, 2) for name in ("query", "key", "value")}
        expected |= {f"{block}/{name}": (4, 4, LENGTH, LENGTH) for name in ("scores", "attention")}
        expected[block] = (4, LENGTH, 8)
    assert {name: tap.shape for name, tap in taps.items()} == expected


def test_contents_of_padding_change_nothing():
    model, variables = small("class")
    result = apply(model, variables, jnp.where(MASK > 0, TOKENS, -7), token_mask=MASK)
    for row, length in ((0, 3), (1, 6)):
        alone = apply(model, variables, TOKENS[row : row + 1, :length])
        close(np.asarray(result.logits)[row : row + 1], alone.logits)
        close(np.asarray(result.tap("final"))[row, :length], alone.tap("final")[0])
        assert np.all(np.asarray(result.tap("block1/attention"))[row, :, :, length:] == 0)


def test_padding_before_a_text_changes_nothing():
    """Positions count tokens, and the first token is the class token."""
    model, variables = small("class")
    padded = jnp.pad(TOKENS, ((0, 0), (2, 0)), constant_values=-7)
    result = apply(model, variables, padded, token_mask=jnp.ones(padded.shape).at[:, :2].set(0))
    expected = apply(model, variables, TOKENS)
    close(result.logits, expected.logits)
    close(result.tap("pooled"), expected.tap("pooled"))
    close(result.tap("final")[:, 2:], expected.tap("final"))


def test_narrow_embeddings_are_widened():
    model, variables = small("token", embed_width=3)
    params, result = jax.tree.map(np.asarray, (variables["params"], apply(model, variables, TOKENS)))
    assert {name: params[name]["embedding"].shape[1] for name in ("embed", "positions", "segments")} == dict.fromkeys(
        ("embed", "positions", "segments"), 3
    )
    rows = params["embed"]["embedding"][np.asarray(TOKENS)] + params["positions"]["embedding"][:LENGTH]
    rows = rows + params["segments"]["embedding"][0]
    rows = (rows - rows.mean(-1, keepdims=True)) / rows.std(-1, keepdims=True)
    rows = rows * params["embed_norm"]["scale"] + params["embed_norm"]["bias"]
    wide = rows @ params["embed_wide"]["kernel"] + params["embed_wide"]["bias"]
    np.testing.assert_allclose(result.tap("embed"), wide, rtol=1e-3, atol=1e-3)
    assert result.logits.hidden.shape == (4, LENGTH, 3)


def test_every_token_depends_on_all_others_and_their_order():
    model, variables = small("class")
    expected = np.asarray(apply(model, variables, TOKENS).logits)
    for right in (TOKENS.at[:, -1].set((TOKENS[:, -1] + 1) % VOCABULARY), TOKENS[:, jnp.array([0, 2, 1, 3, 4, 5])]):
        assert np.any(abs(np.asarray(apply(model, variables, right).logits) - expected) > 1e-3)


def test_positions_and_segments_are_rows_of_their_tables():
    """The embedding by hand: what stands before its norm, seen through a norm of two values."""
    model = Encoder(2, vocabulary=VOCABULARY, layers=1, width=2, heads=1, length=8, first=2)
    variables, segment = drawn(model, TOKENS), np.array([[0, 0, 1, 1, 1, 1]] * 4)
    params = jax.tree.map(np.asarray, variables["params"])
    rows = params["embed"]["embedding"][np.asarray(TOKENS)] + params["positions"]["embedding"][2:8]
    rows = rows + params["segments"]["embedding"][segment]
    sign = np.sign(rows - rows.mean(-1, keepdims=True))
    expected = sign * params["embed_norm"]["scale"] + params["embed_norm"]["bias"]
    close(apply(model, variables, TOKENS, segment=segment).tap("embed"), expected)
    none = apply(model, variables, TOKENS, segment=np.zeros_like(segment)).tap("embed")
    np.testing.assert_array_equal(apply(model, variables, TOKENS).tap("embed"), none)


def test_blocks_end_in_their_norm():
    model, variables = small("class")
    norm, final = jax.tree.map(
        np.asarray, (variables["params"]["block1"]["norm2"], apply(model, variables, TOKENS).tap("final"))
    )
    normed = (final - norm["bias"]) / norm["scale"]
    close(normed.mean(-1), np.zeros(TOKENS.shape))
    close(normed.std(-1), np.ones(TOKENS.shape))


def test_the_class_is_predicted_from_the_first_token():
    model, variables = small("class")
    params, result = jax.tree.map(np.asarray, (variables["params"], apply(model, variables, TOKENS)))
    pooled = np.tanh(result.tap("final")[:, 0] @ params["pooler"]["kernel"] + params["pooler"]["bias"])
    close(result.tap("pooled"), pooled)
    close(result.logits, pooled @ params["head"]["kernel"] + params["head"]["bias"])


def test_the_class_head_of_distilbert_is_a_relu():
    model, variables = small("class", pooler="relu")
    params, result = jax.tree.map(np.asarray, (variables["params"], apply(model, variables, TOKENS)))
    pooled = np.maximum(result.tap("final")[:, 0] @ params["pooler"]["kernel"] + params["pooler"]["bias"], 0)
    close(result.tap("pooled"), pooled)
    with pytest.raises(UserError, match="pooler"):
        Encoder(classes=3, pooler="rleu")


def test_tokens_are_predicted_by_the_embedding():
    model, variables = small("token")
    params, result = jax.tree.map(np.asarray, (variables["params"], apply(model, variables, TOKENS)))
    assert isinstance(result.logits, Unembedding)
    np.testing.assert_array_equal(result.logits.kernel, params["embed"]["embedding"].T)
    np.testing.assert_array_equal(result.logits.bias, params["head"]["bias"])
    np.testing.assert_array_equal(result.tap("pooled"), result.tap("final")[:, 0])
    x = result.tap("final") @ params["head_dense"]["kernel"] + params["head_dense"]["bias"]
    x = x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    close(result.logits.hidden, x * params["head_norm"]["scale"] + params["head_norm"]["bias"])
    dense = apply(model.clone(dense=True), variables, TOKENS).logits
    close(dense, result.logits.hidden @ result.logits.kernel + result.logits.bias)


@functools.cache
def spoken(layers, width):
    model = small("token")[0].clone(layers=layers, width=width)
    return apply(model, drawn(model, TOKENS), TOKENS, token_mask=MASK)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tinybert", "minilmv2", "distilbert"])
def test_methods_of_text_read_its_taps(method):
    """A student of two layers and a teacher of four that are twice as wide."""
    batch = {"tokens": TOKENS, "token_mask": MASK, "mask": jnp.ones(4), "label": jnp.where(TOKENS < 5, TOKENS, -1)}
    module = registry.find("method", method)()
    actual, _ = jax.jit(module.init_with_output)(jax.random.key(0), spoken(2, 8), spoken(4, 16), batch)
    counted = actual if actual.ndim == 1 else actual[MASK > 0]
    assert jnp.isfinite(counted).all()
    assert jnp.all(jnp.sum(jnp.abs(actual.reshape(4, -1)), 1) > 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"predicts": "tokens"}, "predicts must be a kind of prediction, got 'tokens'. Did you mean 'token'"),
        (
            {"predicts": "token"},
            "classes must equal vocabulary=30522 if predicts='token', got 2; set both",
        ),
        ({"embed_width": -1}, "embed_width must be at least 0 and finite, got -1"),
        ({"segments": -1}, "segments must be at least 0 and finite, got -1"),
        ({"heads": 5}, "width must be a multiple of heads=5, got 768"),
        ({"length": 7, "first": 2, "layers": 1}, "texts must have at most 5 tokens, got 6.*data.length=5"),
    ],
)
def test_invalid_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        shapes(Encoder(2, **fields), TOKENS)
