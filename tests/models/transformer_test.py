"""Parts of transformers by hand, and the two ways of running layers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models import transformer
from jaxdistill.models.attention import MASKED_SCORE, Visibility
from jaxdistill.models.decoder import Decoder
from jaxdistill.models.transformer import Attention, Block, FeedForward, Style
from jaxdistill.train import mesh as sharding
from jaxdistill.train import partitioning
from toy_texts import LLAMA, SMALL, TOKENS, VOCABULARY, apply, drawn, scanned, shapes

X = jax.random.normal(jax.random.key(0), (2, 3, 8))
EVERY, FIRST = Visibility(), jnp.arange(3)[None]


def close(got, expected, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


def test_token_positions_by_hand():
    mask = jnp.array([[1, 1, 0], [0, 1, 1]])
    np.testing.assert_array_equal(transformer.token_positions(mask, mask), [[0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(transformer.token_positions(mask, None), [[0, 1, 2]])


def test_attention_is_recomputed_from_its_taps():
    style = Style(layers=1, width=8, heads=4)
    module, visibility = Attention(style), Visibility(causal=True, token_mask=jnp.array([[1, 1, 0], [1, 1, 1]]))
    variables = drawn(module, X, visibility, FIRST)
    result, taps = jax.jit(module.apply)(variables, X, visibility, FIRST)
    products = np.einsum("bihd,bjhd->bhij", taps["query"], taps["key"]) / np.sqrt(2)
    scores = np.where(np.broadcast_to(visibility.mask(3), products.shape), products, MASKED_SCORE)
    close(taps["scores"], scores)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    close(taps["attention"], shares / shares.sum(-1, keepdims=True))
    mixed = np.einsum("bhij,bjhd->bihd", taps["attention"], taps["value"])
    out = variables["params"]["out"]
    close(result, np.einsum("bihd,hdw->biw", mixed, out["kernel"]) + np.asarray(out["bias"]), atol=1e-5)


@pytest.mark.parametrize("rotary", [0.0, 10.0])
def test_grouped_queries_are_all_heads_with_keys_and_values_repeated(rotary):
    style = functools.partial(Style, layers=1, width=8, heads=4, rotary=rotary)
    grouped, whole = Attention(style(key_heads=2)), Attention(style())
    variables = drawn(grouped, X, EVERY, FIRST)
    params = dict(variables["params"])
    for name in ("key", "value"):  # [width, heads, head width] and [heads, head width]
        params[name] = {part: jnp.repeat(x, 2, axis=x.ndim - 2) for part, x in params[name].items()}
    apply = jax.jit(whole.apply)
    result, taps = jax.jit(grouped.apply)(variables, X, EVERY, FIRST)
    expected, wanted = apply({"params": params}, X, EVERY, FIRST)
    close(result, expected)
    close(taps["scores"], wanted["scores"])
    assert taps["key"].shape == taps["value"].shape == (2, 3, 2, 2)
    same = drawn(whole, X, EVERY, FIRST)
    equal, _ = jax.jit(Attention(style(key_heads=4)).apply)(same, X, EVERY, FIRST)
    close(equal, apply(same, X, EVERY, FIRST)[0])


@pytest.mark.parametrize(
    ("activation", "at_1"),
    [
        ("gelu", 0.8413447),
        ("gelu_tanh", 0.8411920),
        ("relu", 1.0),
        ("swiglu", 3 / (1 + math.exp(-1))),
        ("geglu_tanh", 3 * 0.8411920),
    ],
)
def test_feed_forward_by_hand(activation, at_1):
    """One hidden unit that receives 1, or 3 beside a gate that receives 1."""
    module = FeedForward(Style(layers=1, width=1, heads=1, hidden=1, activation=activation, bias=False))
    gated = activation in transformer.GATED
    params = {"up": 3.0 if gated else 1.0, "down": 2.0} | ({"gate": 1.0} if gated else {})
    params = {name: {"kernel": jnp.full((1, 1), value)} for name, value in params.items()}
    close(module.apply({"params": params}, jnp.ones((1, 1, 1))), [[[2 * at_1]]])


def test_norms_by_hand():
    x = jnp.array([[[3.0, 4.0]]])
    rms = x / math.sqrt(12.5)
    for norm, expected in (("rms", rms), ("rms_offset", 2 * rms), ("layer", jnp.array([[[-1.0, 1.0]]]))):
        module = transformer.normalize(Style(layers=1, width=2, heads=1, norm=norm, epsilon=1e-12), "norm")
        variables = {"params": {"scale": jnp.ones(2)} | ({"bias": jnp.zeros(2)} if norm == "layer" else {})}
        close(module.apply(variables, x), expected)
        if norm == "layer":
            close(module.apply(variables, x + 4096), expected)


@pytest.mark.parametrize(("dtype", "mean", "tolerance"), [(jnp.float32, 1000, 2e-4), (jnp.bfloat16, 30, 2**-8)])
def test_a_layer_norm_has_the_digits_of_its_dtype_where_the_mean_is_large(dtype, mean, tolerance):
    x = (mean + jax.random.normal(jax.random.key(0), (16, 768))).astype(dtype)
    values = transformer.normalize(Style(layers=1, width=768, heads=1, dtype=dtype), None).init_with_output(
        jax.random.key(0), x
    )[0]
    wide = np.asarray(x, np.float64)
    exact = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    close(np.asarray(values, np.float64), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("norm_first", [True, False])
def test_norms_precede_or_follow_the_sums(norm_first):
    """Parts that add nothing leave the residual stream as it is, or normalised."""
    block = Block(Style(layers=1, width=8, heads=4, norm_first=norm_first))
    variables = drawn(block, X, EVERY, FIRST)
    params = jax.tree.map(jnp.copy, variables["params"])
    for part, last in (("attention", "out"), ("feed_forward", "down")):
        params[part][last] = jax.tree.map(jnp.zeros_like, params[part][last])
    for norm in ("norm1", "norm2"):
        params[norm] = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
    result, taps = jax.jit(block.apply)({"params": params}, X, EVERY, FIRST)
    x = np.asarray(X)
    normed = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    close(result, x if norm_first else normed, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(taps[""], result)
    query = params["attention"]["query"]
    read = np.einsum("biw,whd->bihd", normed if norm_first else x, query["kernel"]) + np.asarray(query["bias"])
    close(taps["query"], read, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 9}, "width must be a multiple of heads=4, got 9"),
        ({"key_heads": 3}, "heads must be a multiple of key_heads=3, got 4"),
        ({"head_width": 3, "rotary": 10.0}, "head_width must be even, got 3"),
        ({"norm": "batch"}, "norm must be an existing norm, got 'batch'. .*'layer', 'rms'"),
        ({"activation": "gleu"}, "activation must be an existing activation, got 'gleu'. Did you mean 'gelu'"),
        ({"remat": "blocks"}, "remat must be an existing remat, got 'blocks'. Did you mean 'block'"),
        ({"rotary_scaling": (8.0,)}, "rotary_scaling must be four positive numbers"),
        ({"layers": 0}, "layers must be at least 1 and finite, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_invalid_styles_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Style(**({"layers": 1, "width": 8, "heads": 4} | fields))


def test_queries_and_keys_of_each_head_are_normalised():
    style = Style(layers=1, width=8, heads=4, norm="rms", qk_norm=True, bias=False)
    module = Attention(style)
    variables = drawn(module, X, EVERY, FIRST)
    params, (_, taps) = variables["params"], jax.jit(module.apply)(variables, X, EVERY, FIRST)
    for name in ("query", "key"):
        heads = np.einsum("blw,whd->blhd", X, params[name]["kernel"])
        normed = heads / np.sqrt(np.mean(heads**2, -1, keepdims=True) + style.epsilon)
        close(taps[name], normed * np.asarray(params[f"{name}_norm"]["scale"]), rtol=1e-4)
    close(taps["value"], np.einsum("blw,whd->blhd", X, params["value"]["kernel"]))


def test_biases_of_query_key_and_value_alone():
    params = shapes(Block(Style(layers=1, width=8, heads=4, bias=False, qkv_bias=True)), X, EVERY, FIRST)
    names = {core.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    biases = {name for name in names if name.endswith("bias") and "norm" not in name}
    assert biases == {f"attention/{name}/bias" for name in ("query", "key", "value")}


def test_layer_scale_multiplies_what_each_part_adds():
    block = Block(Style(layers=1, width=8, heads=4, layer_scale=0.1))
    variables = drawn(block, X, EVERY, FIRST)
    params = dict(variables["params"]) | {"layer_scale1": jnp.zeros(8), "layer_scale2": jnp.full(8, 2.0)}
    result = jax.jit(block.apply)({"params": params}, X, EVERY, FIRST)[0]
    plain = Block(Style(layers=1, width=8, heads=4))
    inner = {name: value for name, value in params.items() if not name.startswith("layer_scale")}
    silent = inner | {
        "attention": inner["attention"] | {"out": jax.tree.map(jnp.zeros_like, inner["attention"]["out"])}
    }
    close(result - X, 2 * (jax.jit(plain.apply)({"params": silent}, X, EVERY, FIRST)[0] - X), rtol=1e-4, atol=1e-5)
    assert jax.eval_shape(block.init, jax.random.key(0), X, EVERY, FIRST)["params"]["layer_scale1"].shape == (8,)


@functools.cache
def learned(scan, remat):
    """Logits, taps and gradients of a small Llama with params that are the same whatever the form."""
    model = Decoder(VOCABULARY, **SMALL, **LLAMA, dense=True, scan=scan, remat=remat)
    params = drawn(model.clone(scan=False), TOKENS)["params"]
    params = scanned(params, 2) if scan else params

    @functools.partial(jax.grad, has_aux=True)
    def loss(params):
        result = model.apply({"params": params}, TOKENS)
        return jnp.mean(jax.nn.logsumexp(result.logits, -1)), result

    grads, result = jax.jit(loss)(params)
    return result, grads if scan else scanned(grads, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("scan", "remat"), [(True, ""), (False, "block"), (True, "products")])
def test_scanned_and_rematerialised_layers_equal_looped_ones(scan, remat):
    expected, actual = learned(False, ""), learned(scan, remat)
    assert expected[0].taps.keys() == actual[0].taps.keys()
    assert {"block1", "block1/query", "block1/key", "block1/value", "block1/scores"} < actual[0].taps.keys()
    jax.tree.map(functools.partial(close, rtol=1e-4), expected, actual)


def test_rematerialised_layers_and_unused_scanned_taps_need_less_memory():
    model = Decoder(VOCABULARY, layers=6, width=8, heads=4, length=64, scan=True)
    tokens = jnp.zeros((4, 64), jnp.int32)
    maps = 4 * 6 * 4 * 64 * 64 * 4  # the bytes of all scores

    def memory(model, of=lambda loss: loss, tap="final"):
        def loss(params):
            return jnp.sum(model.apply({"params": params}, tokens).tap(tap) ** 2)

        return jax.jit(of(loss)).lower(shapes(model, tokens)).compile().memory_analysis().temp_size_in_bytes

    assert memory(model) < maps / 2
    assert memory(model, tap="block0/scores") > maps
    assert memory(model, jax.grad) > 2 * maps
    assert memory(model.clone(remat="block"), jax.grad) < maps


def test_bfloat16_is_close_and_scores_are_float32():
    model = Decoder(VOCABULARY, **SMALL, **LLAMA, dense=True)
    variables = drawn(model, TOKENS, spread=0.2)
    expected, result = (
        apply(model, variables, TOKENS),
        apply(model.clone(dtype=jnp.bfloat16), variables, TOKENS),
    )
    exact = {name for name, tap in result.taps.items() if tap.dtype == jnp.float32}
    assert exact == {"pooled", "block0/scores", "block1/scores"}
    assert {tap.dtype for name, tap in result.taps.items() if name not in exact} == {jnp.dtype("bfloat16")}
    assert result.logits.dtype == jnp.float32
    close(result.logits, expected.logits, rtol=0.05, atol=0.05)


def _biases_alone(path, x):
    """1 for the embedding and the biases into the residual stream, 0 for everything else."""
    name = core.path_name(path)
    return jnp.full_like(x, float(name.endswith(("out/bias", "down/bias", "embed/embedding"))))


def test_dropout_acts_in_training_only_and_differs_by_layer():
    """Of layers that would add nothing but for their bias, the share that dropout leaves is seen as it is."""
    model = Decoder(VOCABULARY, **SMALL, dropout=0.5, scan=True)
    variables = jax.tree_util.tree_map_with_path(_biases_alone, drawn(model, TOKENS))

    @jax.jit
    def added(key):
        taps = model.apply(variables, TOKENS, train=True, rngs={"dropout": key}).taps
        return taps["block1"] - taps["block0"], taps["block0"]

    first, again, right = (added(jax.random.key(key)) for key in (0, 0, 1))
    np.testing.assert_array_equal(first[0], again[0])
    assert jnp.any(first[0] != right[0])
    # 0, 2 from either part, or 4 from both; the residual stream that enters the first layer is dropped out 1.
    assert set(np.unique(np.round(first[0], 3))) == {0.0, 2.0, 4.0}
    entered = first[1] - first[0]
    assert not set(np.unique(np.round(entered, 3))) <= {0.0, 2.0}, "both layers dropped the same"
    result = apply(model, variables, TOKENS).taps  # raises without a dropout key if it drops
    close(result["block1"] - result["block0"], jnp.full(first[0].shape, 2.0))


def test_weights_into_the_residual_stream_start_smaller():
    model = Decoder(VOCABULARY, layers=2, width=64, heads=4)

    @jax.jit
    def spreads(key):
        block = model.init(key, TOKENS)["params"]["block1"]
        inner, last = block["feed_forward"]["up"]["kernel"], block["feed_forward"]["down"]["kernel"]
        return jnp.std(inner), jnp.std(last), jnp.std(block["attention"]["out"]["kernel"])

    close(jnp.stack(spreads(jax.random.key(0))), [0.02, 0.01, 0.01], rtol=0.05)


@pytest.mark.parametrize("scan", [False, True])
def test_sharded_blocks_equal_unsharded_ones(scan):
    model = Decoder(VOCABULARY + 1, layers=2, width=8, heads=4, key_heads=2, dense=True, scan=scan, **LLAMA)
    variables = drawn(model, TOKENS)
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    placed = partitioning.Partitioner(
        mesh, partitioning.Rules.parse(["tensor", "fsdp:17"]), {"net": partitioning.NetworkRules(axes=model.axes)}
    ).partition({"params": {"net": variables["params"]}})
    placed = {"params": placed.shardings["params"]["net"]}
    whole = sum(x.nbytes for x in jax.tree.leaves(variables))
    norms = 5 * 8 * 4
    assert sharding.bytes_per_device(variables, placed) == (whole - norms) // 4 + norms

    spread = jax.jit(model.apply, in_shardings=(placed, sharding.over_rows(mesh)))(variables, TOKENS)
    close(spread.logits, apply(model, variables, TOKENS).logits, rtol=1e-4, atol=1e-5)
