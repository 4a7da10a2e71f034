"""The sampler against the model without a cache: tokens, log-probabilities, rows that do not depend on each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.generation.sampler import Sampling, end_in_one_column, sample
from jaxdistill.models.decoder import Decoder

SMALL = dict(classes=17, layers=2, width=16, heads=4, length=32)
LLAMA = dict(SMALL, positions="rotary", norm="rms", activation="swiglu", bias=False, tied=False)
STYLES = {
    "gpt2": SMALL,
    "llama": dict(LLAMA, key_heads=2, scan=True),
    "mistral": dict(LLAMA, key_heads=2, window=3),
    "qwen": dict(LLAMA, key_heads=1, qkv_bias=True, qk_norm=True, head_width=8),
    "gemma": dict(LLAMA, norm="rms_offset", scaled=True, tied=True, activation="geglu_tanh", dense=True),
}
PROMPTS = jnp.array([[0, 0, 3, 5, 2], [7, 1, 4, 4, 9], [0, 0, 0, 0, 6]])
MASK = jnp.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]])


def predictor(module, variables):
    def predict(cache, tokens, token_mask):
        given = {**variables, **({"cache": cache} if cache else {})}
        output, changed = module.apply(given, tokens, token_mask=token_mask, mutable=["cache"])
        return output, changed["cache"]

    return predict


@functools.cache
def made(style):
    module = Decoder(**STYLES[style])
    variables = module.init(jax.random.key(1), PROMPTS)
    # Larger weights, so that the likeliest token is not always the last one.
    return module, jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, variables)


def written(style, sampling, prompts=PROMPTS, mask=MASK, examples=None, seed=0):
    module, variables = made(style)
    examples = jnp.arange(len(prompts)) if examples is None else jnp.array(examples)
    run = jax.jit(functools.partial(sample, predictor(module, variables), sampling=sampling))
    return run(prompts, mask, examples=examples, key=jax.random.key(seed))


def log_probs_without_cache(style, text):
    """The log-probabilities of all next tokens, of every column."""
    module, variables = made(style)
    output = jax.jit(module.apply)(variables, text.tokens, token_mask=text.token_mask)
    return np.asarray(jax.nn.log_softmax(core.dense(output.logits)))


def styles(default):
    return [style if style == default else pytest.param(style, marks=pytest.mark.slow) for style in STYLES]


@pytest.mark.parametrize("style", styles("llama"))
def test_greedy_is_the_argmax_of_the_model_without_a_cache_at_every_position(style):
    text = written(style, Sampling(tokens=6, temperature=0.0))
    full = log_probs_without_cache(style, text)[:, 4:-1]
    np.testing.assert_array_equal(text.tokens[:, 5:], full.argmax(-1))
    np.testing.assert_array_equal(text.tokens[:, :5], PROMPTS)
    assert len(np.unique(text.tokens[:, 5:])) > 2


@pytest.mark.parametrize("style", styles("mistral"))
def test_log_probabilities_are_those_of_the_learner(style):
    text = written(style, Sampling(tokens=6, temperature=0.7, samples=2))
    full = log_probs_without_cache(style, text)[:, 4:-1]
    expected = np.take_along_axis(full, np.asarray(text.tokens)[:, 5:, None], -1)[..., 0]
    np.testing.assert_allclose(text.log_probs, expected, atol=1e-5)
    assert not np.array_equal(text.tokens[0], text.tokens[1])  # two samples of a prompt


@pytest.mark.slow
def test_no_step_copies_the_stored_keys_and_values():
    run = jax.jit(functools.partial(sample, predictor(*made("qwen")), sampling=Sampling(tokens=6)))
    compiled = run.lower(PROMPTS, MASK, examples=jnp.arange(3), key=jax.random.key(0)).compile().as_text()
    stored = "f32[3,11,8]"
    assert stored in compiled
    copies = [line for line in compiled.splitlines() if f"= {stored}" in line and " copy(" in line]
    assert not copies


@pytest.mark.slow
def test_a_text_does_not_depend_on_the_rows_beside_it_or_on_padding():
    sampling = Sampling(tokens=6, samples=2)
    together = written("llama", sampling)
    shorter = written("llama", sampling, PROMPTS[:1, 2:], MASK[:1, 2:], examples=[0])
    np.testing.assert_array_equal(together.tokens[:2, 5:], shorter.tokens[:, 3:])
    np.testing.assert_allclose(together.log_probs[:2], shorter.log_probs, atol=1e-5)
    reversed_rows = written("llama", sampling, PROMPTS[::-1], MASK[::-1], examples=[2, 1, 0])
    np.testing.assert_array_equal(together.tokens[:2], reversed_rows.tokens[-2:])
    other = written("llama", sampling, examples=[5, 1, 2]).tokens
    assert not np.array_equal(together.tokens[:2], other[:2])
    np.testing.assert_array_equal(together.tokens[2:], other[2:])
    assert not np.array_equal(together.tokens, written("llama", sampling, seed=1).tokens)


def test_a_text_ends_after_a_stop_token():
    free = written("gpt2", Sampling(tokens=6, temperature=0.0))
    stop = int(free.tokens[1, 7])
    text = written("gpt2", Sampling(tokens=6, temperature=0.0, stop=(stop, 99)))
    for row in range(3):
        new = np.asarray(free.tokens[row, 5:])
        count = int(np.argmax(new == stop)) + 1 if stop in new else 6
        np.testing.assert_array_equal(text.tokens[row, 5 : 5 + count], new[:count])
        assert not text.tokens[row, 5 + count :].any()
        np.testing.assert_array_equal(text.answer_mask[row], [0] * 5 + [1] * count + [0] * (6 - count))
        np.testing.assert_allclose(text.log_probs[row, :count], free.log_probs[row, :count], atol=1e-5)
        assert not text.log_probs[row, count:].any()
    np.testing.assert_array_equal(text.token_mask, np.concatenate([MASK > 0, text.answer_mask[:, 5:]], 1))


def test_padding_goes_before_the_prompts():
    tokens, mask = end_in_one_column(jnp.array([[3, 5, 9, 9], [7, 9, 1, 9]]), jnp.array([[1, 1, 0, 0], [1, 0, 1, 0]]))
    np.testing.assert_array_equal(tokens, [[0, 0, 3, 5], [0, 0, 7, 1]])
    np.testing.assert_array_equal(mask, [[0, 0, 1, 1], [0, 0, 1, 1]])


@pytest.mark.slow
def test_the_share_of_bfloat16_tokens_that_differ():
    _, variables = made("llama")
    half = Decoder(**STYLES["llama"], dtype=jnp.bfloat16)
    run = jax.jit(functools.partial(sample, predictor(half, variables), sampling=Sampling(tokens=16, temperature=0.0)))
    text = run(jnp.tile(PROMPTS, (8, 1)), jnp.tile(MASK, (8, 1)), examples=jnp.arange(24), key=jax.random.key(0))
    output = jax.jit(half.apply)(variables, text.tokens, token_mask=text.token_mask)
    likeliest = np.asarray(core.dense(output.logits)).argmax(-1)[:, 4:-1]
    assert np.mean(likeliest == np.asarray(text.tokens)[:, 5:]) > 0.95
