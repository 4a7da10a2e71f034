"""Numbers over next tokens: by hand, under masks, in parts, and without the logits of all tokens in float32."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core, metrics
from jaxdistill.data import texts
from jaxdistill.metrics import metric
from jaxdistill.tasks.language_model import LanguageModel

NAMES = LanguageModel.metric_names
ROWS, LENGTH, WIDTH, VOCABULARY = 3, 5, 4, 7


def batch(rows=ROWS):
    rng = np.random.default_rng(0)
    mask = np.ones((rows, LENGTH))
    mask[0, 3:] = 0
    tokens = rng.integers(0, VOCABULARY, (rows, LENGTH))
    data = {"tokens": tokens, "token_mask": mask, "mask": np.arange(rows) < 2}
    data = {name: jnp.asarray(x, jnp.int32 if name == "tokens" else jnp.float32) for name, x in data.items()}
    return LanguageModel(texts.make_windows("text", {"train": b"a text"}, 3)).align(data)


def said(seed, dtype=jnp.float32, dense=False):
    keys = jax.random.split(jax.random.key(seed), 2)
    hidden = jax.random.normal(keys[0], (ROWS, LENGTH, WIDTH), dtype)
    logits = core.Unembedding(hidden, 2 * jax.random.normal(keys[1], (WIDTH, VOCABULARY), dtype))
    return core.Output(core.dense(logits) if dense else logits)


def value(name, output, data, reference):
    found = metrics.METRICS[name]
    sums = jax.jit(found.sums)(output, data, reference if found.needs_reference else None)
    return found.finish(jax.tree.map(lambda x: np.asarray(x, np.float64), sums))


def by_hand(name, output, data, reference):
    own, other = (np.asarray(jax.nn.log_softmax(core.dense(o.logits)), np.float64) for o in (output, reference))
    tokens, there = np.asarray(data["tokens"]), np.asarray(data["token_mask"] * data["mask"][:, None])
    places = [(row, at) for row in range(ROWS) for at in range(LENGTH - 1) if there[row, at + 1]]
    assert len(places) == 6  # 2 of the first text, 4 of the second, none of the third
    nll = np.mean([-own[row, at, tokens[row, at + 1]] for row, at in places])
    return {
        "nll": nll,
        "perplexity": np.exp(nll),
        "bits_per_byte": nll / np.log(2),
        "bits_per_token": nll / np.log(2),
        "accuracy": np.mean([own[row, at].argmax() == tokens[row, at + 1] for row, at in places]),
        "exact_match": np.mean(
            [
                all(own[row, at].argmax() == tokens[row, at + 1] for text, at in places if text == row)
                for row in sorted({row for row, _ in places})
            ]
        ),
        "agreement": np.mean([own[row, at].argmax() == other[row, at].argmax() for row, at in places]),
        "overlap5": np.mean([len({*own[p].argsort()[-5:]} & {*other[p].argsort()[-5:]}) / 5 for p in places]),
        "covered5": np.mean([np.sum(np.exp(other[p][own[p].argsort()[-5:]])) for p in places]),
        "kl": np.mean([np.sum(np.exp(other[p]) * (other[p] - own[p])) for p in places]),
    }[name]


@pytest.mark.parametrize("chunk", [2, 1 << 24])
@pytest.mark.parametrize("name", NAMES)
def test_by_hand(name, chunk, monkeypatch):
    monkeypatch.setattr(metric, "CHUNK", chunk * VOCABULARY)
    sides = said(0), said(1)
    expected = by_hand(name, sides[0], batch(), sides[1])
    assert value(name, sides[0], batch(), sides[1]) == pytest.approx(expected, rel=1e-5)
    dense = said(0, dense=True), said(1, dense=True)
    assert value(name, dense[0], batch(), dense[1]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_split_is_nan(name):
    data = batch() | {"valid": jnp.zeros((ROWS, LENGTH))}
    assert math.isnan(value(name, said(0), data, said(1)))


def arrays(jaxpr):
    for equation in jaxpr.eqns:
        yield from (out.aval for out in equation.outvars)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from arrays(inner)


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_of_all_tokens_are_never_there(name, monkeypatch):
    monkeypatch.setattr(metric, "CHUNK", 4 * VOCABULARY)
    sides = said(0, jnp.bfloat16), said(1, jnp.bfloat16)
    found = metrics.METRICS[name].sums
    made = list(arrays(jax.make_jaxpr(lambda *sides: found(sides[0], batch(), sides[1]))(*sides).jaxpr))
    assert max(math.prod(x.shape) for x in made if x.shape and x.shape[-1] == VOCABULARY) == 4 * VOCABULARY
