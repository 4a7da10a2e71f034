"""Decoders: published sizes, causality, and learning without logits of all tokens."""

import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdistill import core
from jaxdistill.core import Output, Term, Unembedding
from jaxdistill.errors import UserError
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.models.decoder import Decoder
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.networks import Frozen, Trained
from jaxdistill.train.step import make_step
from toy_texts import LENGTH, LLAMA, SMALL, TOKENS, VOCABULARY, apply, drawn, shapes

LLAMA_3 = {"key_heads": 8, "rotary_base": 500_000.0}
STYLES = {"gpt2": {}, "llama": LLAMA | {"key_heads": 2}}
QWEN2 = LLAMA | {"qkv_bias": True}
QWEN3 = LLAMA | {"qk_norm": True, "head_width": 128, "key_heads": 8}
GEMMA = LLAMA | {"norm": "rms_offset", "activation": "geglu_tanh", "scaled": True, "tied": True, "head_width": 256}


@functools.cache
def small(style):
    model = Decoder(VOCABULARY, **SMALL, **STYLES[style], dense=True)
    return model, drawn(model, TOKENS)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "layers", "width", "heads", "fields", "published"),
    [
        (50_257, 12, 768, 12, {}, 124_439_808),  # gpt2
        (50_257, 24, 1024, 16, {}, 354_823_168),  # gpt2-medium
        (50_257, 48, 1600, 25, {}, 1_557_611_200),  # gpt2-xl
        (50_257, 6, 768, 12, {}, 81_912_576),  # distilgpt2
        (32_000, 32, 4096, 32, LLAMA | {"hidden": 11_008}, 6_738_415_616),  # Llama-2-7B
        (128_256, 32, 4096, 32, LLAMA | LLAMA_3 | {"hidden": 14_336}, 8_030_261_248),  # Llama-3-8B
        (128_256, 16, 2048, 32, LLAMA | LLAMA_3 | {"hidden": 8192, "tied": True}, 1_235_814_400),  # Llama-3.2-1B
        (32_000, 22, 2048, 32, LLAMA | {"key_heads": 4, "hidden": 5632}, 1_100_048_384),  # TinyLlama-1.1B
        (32_000, 32, 4096, 32, LLAMA | {"key_heads": 8, "hidden": 14_336, "window": 4096}, 7_241_732_096),  # Mistral-7B
        (151_936, 24, 896, 14, QWEN2 | {"key_heads": 2, "hidden": 4864, "tied": True}, 494_032_768),  # Qwen2-0.5B
        (152_064, 28, 3584, 28, QWEN2 | {"key_heads": 4, "hidden": 18_944}, 7_615_616_512),  # Qwen2.5-7B
        (151_936, 28, 1024, 16, QWEN3 | {"hidden": 3072, "tied": True}, 596_049_920),  # Qwen3-0.6B
        (151_936, 36, 4096, 32, QWEN3 | {"hidden": 12_288}, 8_190_735_360),  # Qwen3-8B
        (256_000, 18, 2048, 8, GEMMA | {"key_heads": 1, "hidden": 16_384}, 2_506_172_416),  # Gemma-2B
        (256_000, 28, 3072, 16, GEMMA | {"hidden": 24_576}, 8_537_680_896),  # Gemma-7B
    ],
)
def test_parameters_as_published(classes, layers, width, heads, fields, published):
    model = Decoder(classes, layers=layers, width=width, heads=heads, scan=True, **fields)
    assert core.count(shapes(model, TOKENS)) == published


def test_taps():
    model = Decoder(VOCABULARY, **SMALL, key_heads=2, head_width=6)
    taps = jax.eval_shape(model.init_with_output, jax.random.key(0), TOKENS)[0].taps
    expected = {"embed": (4, LENGTH, 8), "final": (4, LENGTH, 8), "pooled": (4, 8)}
    for block in ("block0", "block1"):
        expected |= {block: (4, LENGTH, 8), f"{block}/query": (4, LENGTH, 4, 6)}
        expected |= {f"{block}/{name}": (4, 4, LENGTH, LENGTH) for name in ("scores", "attention")}
        expected |= {f"{block}/{name}": (4, LENGTH, 2, 6) for name in ("key", "value")}
    assert {name: tap.shape for name, tap in taps.items()} == expected


@pytest.mark.parametrize("style", STYLES)
def test_a_later_token_changes_no_earlier_logit(style):
    model, variables = small(style)
    right = TOKENS.at[:, 3].set((TOKENS[:, 3] + 1) % VOCABULARY)
    expected, result = (np.asarray(apply(model, variables, tokens).logits) for tokens in (TOKENS, right))
    np.testing.assert_array_equal(result[:, :3], expected[:, :3])
    assert np.all(np.any(result[:, 3:] != expected[:, 3:], -1))


@pytest.mark.parametrize("left", [0, 2])
@pytest.mark.parametrize("style", STYLES)
def test_padding_on_either_side_changes_nothing(style, left):
    """Whatever stands there, which may be no token; and positions count tokens."""
    model, variables = small(style)
    is_token = slice(left, left + 4)
    mask = jnp.zeros(TOKENS.shape).at[:, is_token].set(1)
    padded = jnp.where(mask > 0, jnp.roll(TOKENS, left, 1), 999)
    result, expected = (
        apply(model, variables, padded, token_mask=mask),
        apply(model, variables, TOKENS[:, :4]),
    )
    close(np.asarray(result.logits)[:, is_token], expected.logits)
    close(result.tap("pooled"), expected.tap("pooled"))
    assert np.isfinite(result.logits).all()


@pytest.mark.parametrize("style", STYLES)
def test_texts_of_one_row_are_as_they_are_alone(style):
    """Attention and positions end where a text does, also with padding before and after them."""
    model, variables = small(style)
    texts = TOKENS[:2, :3].reshape(1, 6)
    row = jnp.concatenate([jnp.full((1, 1), 999), texts, jnp.full((1, 1), 999)], 1)
    document = jnp.array([[0, 1, 1, 1, 2, 2, 2, 0]])
    result = apply(model, variables, row, token_mask=document > 0, document=document).logits
    expected = apply(model, variables, TOKENS[:2, :3]).logits
    close(np.asarray(result)[0, 1:7].reshape(2, 3, -1), expected)


@pytest.mark.parametrize("style", STYLES)
def test_both_kinds_of_positions_distinguish_orders(style):
    """In one layer, the last token sees a set of others but for their positions."""
    model, variables = small(style)
    model, swapped = model.clone(layers=1), TOKENS[:, jnp.array([1, 0, 2, 3, 4, 5])]
    expected, result = (apply(model, variables, tokens).logits[:, -1] for tokens in (TOKENS, swapped))
    assert jnp.any(abs(result - expected) > 1e-3)


@pytest.mark.parametrize("style", STYLES)
def test_logits_are_the_head_of_the_final_state(style):
    model, variables = small(style)
    params = jax.tree.map(np.asarray, variables["params"])
    result = apply(model.clone(dense=False), variables, TOKENS)
    kernel = params["embed"]["embedding"].T if style == "gpt2" else params["head"]["kernel"]
    assert isinstance(result.logits, Unembedding)
    np.testing.assert_array_equal(result.logits.hidden, result.tap("final"))
    np.testing.assert_array_equal(result.logits.kernel, kernel)
    dense = apply(model, variables, TOKENS)
    close(dense.logits, np.asarray(result.tap("final")) @ kernel)
    np.testing.assert_array_equal(dense.tap("pooled"), dense.tap("final")[:, -1])
    assert ("head" in params) == (style == "llama")


def test_a_window_ends_what_a_token_depends_on():
    """In one layer the last token sees the others of its window, and nothing before them."""
    model, variables = small("llama")
    model = model.clone(layers=1, window=3)
    expected = np.asarray(apply(model, variables, TOKENS).logits)[:, -1]
    for place, changes in ((LENGTH - 4, False), (LENGTH - 3, True)):
        right = TOKENS.at[:, place].set((TOKENS[:, place] + 1) % VOCABULARY)
        result = np.asarray(apply(model, variables, right).logits)[:, -1]
        assert np.all(np.any(result != expected, -1) == changes)


def test_scaled_embeddings_are_multiplied_by_the_root_of_the_width():
    model, variables = small("llama")
    expected = apply(model, variables, TOKENS).tap("embed") * 8**0.5
    close(apply(model.clone(scaled=True), variables, TOKENS).tap("embed"), expected)


def test_invalid_fields_are_refused():
    with pytest.raises(UserError, match="positions must be a kind of positions, got 'rotory'. Did you mean 'rotary'"):
        Decoder(VOCABULARY, positions="rotory")
    with pytest.raises(UserError, match="texts must have at most 5 tokens, got 6; raise length"):
        shapes(Decoder(VOCABULARY, **SMALL, length=5), TOKENS)
    with pytest.raises(UserError, match="width must be a multiple of heads=4, got 10"):
        Decoder(VOCABULARY, **(SMALL | {"width": 10}))


def test_a_token_outside_the_vocabulary_is_nan():
    model, variables = small("gpt2")
    assert jnp.isnan(apply(model, variables, TOKENS.at[0, 0].set(VOCABULARY)).logits[0]).all()


def taught(chunk, dense=False):
    """A stage of distillation: a Llama with a vocabulary of 97 learns from a wider one and from the text."""
    left_side = Decoder(97, **SMALL, **LLAMA, dense=dense)
    right_side = left_side.clone(width=16, heads=2, dense=dense)
    networks = {"teacher": Frozen(right_side, input="tokens"), "student": Trained(left_side, input="tokens")}
    terms = {
        "task": Term(CrossEntropy(chunk=chunk), teacher=None),
        "kd": Term(ForwardKL(temperature=2.0, chunk=chunk)),
    }
    tx = optax.adam(3e-2)
    data = {"tokens": TOKENS, "token_mask": jnp.ones(TOKENS.shape).at[0, 4:].set(0)}
    data |= {"mask": jnp.ones(4), "index": jnp.arange(4)}
    params = {"student": drawn(left_side, TOKENS, spread=0.2)["params"]}
    state = core.State(jnp.int32(0), jax.random.key(0), params, {}, tx.init(params))
    frozen = {"teacher": drawn(right_side, TOKENS, spread=0.2)}
    return make_step(networks, terms, tx), state, frozen, align_next_tokens(data)


def shapes_in(jaxpr):
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from shapes_in(inner)


def test_a_distillation_step_never_holds_the_logits_of_all_tokens():
    def largest(chunk):
        step, state, frozen, data = taught(chunk)
        actual = shapes_in(jax.make_jaxpr(step)(state, frozen, data).jaxpr)
        return max(int(np.prod(shape[:-1])) for shape in actual if shape and shape[-1] == 97)

    assert largest(chunk=0) == 4 * LENGTH
    assert largest(chunk=3) == max(3, 16)  # a chunk; the kernels are 8 and 16 wide


def test_chunks_learn_what_dense_logits_do():
    results = []
    for chunk, dense in ((0, True), (5, False)):
        step, state, frozen, data = taught(chunk, dense)
        run = jax.jit(step)
        losses = []
        for _ in range(5):
            state, metrics = run(state, frozen, data)
            losses.append(metrics["loss"])
            assert all(jnp.isfinite(value) for value in metrics.values())
        results.append(jnp.stack(losses))
        assert losses[-1] < 0.95 * losses[0]
    close(*results)


def test_gradients_reach_every_parameter_and_are_finite():
    model, variables = small("llama")
    batch = align_next_tokens({"tokens": TOKENS, "mask": jnp.ones(4)})

    def loss(params):
        result = model.apply({"params": params}, TOKENS)
        values = CrossEntropy().apply({}, Output(result.logits), None, batch)
        return core.mean(values, jnp.ones(4))

    grads = jax.jit(jax.grad(loss))(variables["params"])
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all(), core.path_name(path)
        assert np.any(np.asarray(grad) != 0), core.path_name(path)
