"""Losses some predictions at a time: what every method over a vocabulary says in chunks, in what memory."""

import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.conformance import toy_outputs
from jaxdistill.conformance.toy_outputs import LENGTH, ROWS, VOCABULARY
from jaxdistill.core import Output, TopK, Unembedding
from jaxdistill.losses import chunked, divergence, topk
from jaxdistill.modules.logits_method import LogitsMethod
from jaxdistill.train import flops


def is_in_chunks(name):
    """Whether a method takes tokens some at a time; `random_sampling` draws other classes in other chunks."""
    method = registry.find("method", name)
    if name == "random_sampling" or not issubclass(method, LogitsMethod):
        return False
    return not method.needs_whole_batch and "classes" in method.predictions


METHODS = [name for name in registry.names("method") if is_in_chunks(name)]
QUICK = ("cross_entropy", "forward_kl", "gkd", "top_k")
"""Methods whose chunks are tested by default; `modules/logits_method.py` makes those of all."""
CASES = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in METHODS]
WIDTH = 4


def make(name, chunk=0):
    return registry.find("method", name)(chunk=chunk)


def unembedding(seed, shape=(ROWS, LENGTH), vocabulary=VOCABULARY, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), 3)
    hidden = jax.random.normal(keys[0], (*shape, WIDTH), dtype)
    kernel = jax.random.normal(keys[1], (WIDTH, vocabulary), dtype)
    return Unembedding(hidden, kernel, jax.random.normal(keys[2], (vocabulary,), dtype))


def by_hand(said):
    return said.hidden @ said.kernel + said.bias[None, None]


@functools.cache
def found(name, chunk, dense):
    """The value of each prediction, and what the student's arrays receive."""
    method, data = make(name, chunk), toy_outputs.batch("next_tokens")
    sides = [by_hand(unembedding(seed)) if dense else unembedding(seed) for seed in (0, 1)]
    variables = method.init(jax.random.key(0), *(Output(side) for side in sides), data)

    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(student, teacher):
        values = method.apply(variables, Output(student), Output(teacher), data)
        return core.mean(values, method.valid(data)), values

    (_, values), grads = jax.jit(loss)(*sides)
    return values, grads


@pytest.mark.parametrize("chunk", [5, 6, 100])
@pytest.mark.parametrize("name", CASES)
def test_chunks_equal_the_whole(name, chunk):
    """42 predictions, in chunks that divide them, that do not, and that are larger than all."""
    values, grads = found(name, chunk, dense=False)
    expected, wanted = found(name, 0, dense=False)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"restrict_to_masked": True}, {"stage": "prediction"}], ids=str)
def test_predictions_of_encoders_in_chunks_are_the_whole(settings):
    """DistilBERT's soft targets and labels, TinyBERT's second stage: from what is not computed."""
    member, data = (
        registry.find("method", "tinybert" if "stage" in settings else "distilbert"),
        toy_outputs.batch("texts"),
    )
    said = [toy_outputs.output("texts", seed).replace(logits=unembedding(seed)) for seed in (0, 1)]

    def measured(chunk):
        method = member(chunk=chunk, **settings)
        loss = jax.value_and_grad(lambda own: core.mean(method.apply({}, own, said[1], data), method.valid(data)))
        return jax.jit(loss)(said[0])

    for got, want in zip(jax.tree.leaves(measured(5)), jax.tree.leaves(measured(0)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    text = str(jax.make_jaxpr(lambda own: member(chunk=5, **settings).apply({}, own, said[1], data))(said[0]))
    assert f"[{ROWS},{LENGTH},{VOCABULARY}]" not in text


@pytest.mark.parametrize("chunk", [0, 5])
@pytest.mark.parametrize("name", CASES)
def test_logits_in_chunks_equal_unembeddings(name, chunk):
    values, gradient = found(name, chunk, dense=True)
    expected, wanted = found(name, 0, dense=False)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    hidden = unembedding(0).hidden
    np.testing.assert_allclose(jnp.einsum("blv,bld->dv", gradient, hidden), wanted.kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient.sum((0, 1)), wanted.bias, rtol=1e-4, atol=1e-6)


def arrays(jaxpr):
    """Every array that a program makes, those inside of its loops too."""
    for equation in jaxpr.eqns:
        yield from (out.aval for out in equation.outvars)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from arrays(inner)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_no_float32_array_is_as_large_as_all_logits(name, dense):
    """Forward and backward, for bfloat16 from outside: as logits, or as states and a kernel.

    Three predictions at a time, since pairs of classes are 11 times as many as classes, and all predictions are 42.
    """
    method, data = make(name, 3), toy_outputs.batch("next_tokens")
    sides = [unembedding(seed, dtype=jnp.bfloat16) for seed in (0, 1)]
    sides = [by_hand(said) for said in sides] if dense else sides
    variables = method.init(jax.random.key(0), *(Output(side) for side in sides), data)

    def loss(student, teacher):
        return core.mean(method.apply(variables, Output(student), Output(teacher), data), method.valid(data))

    made = list(arrays(jax.make_jaxpr(jax.value_and_grad(loss))(*sides).jaxpr))
    large = [x for x in made if x.dtype == jnp.float32 and math.prod(x.shape) >= ROWS * LENGTH * VOCABULARY]
    assert len(made) > 50
    assert not large


def program(name, chunk, tokens=4096, vocabulary=32_768, width=64):
    """A value and gradient by states and kernel, and the shapes of its arguments."""
    method, rows = make(name, chunk), 4

    def shape(*sizes):
        return jax.ShapeDtypeStruct(sizes, jnp.float32)

    said = Output(Unembedding(shape(rows, tokens // rows, width), shape(width, vocabulary)))
    label = jax.ShapeDtypeStruct((rows, tokens // rows), jnp.int32)
    data = {"label": label, "mask": shape(rows), "valid": shape(rows, tokens // rows)}
    data["index"] = jax.ShapeDtypeStruct((rows,), jnp.int32)

    def loss(student, teacher, variables, batch):
        return core.mean(method.apply(variables, student, teacher, batch), method.valid(batch))

    variables = jax.eval_shape(method.init, jax.random.key(0), said, said, data)
    return jax.value_and_grad(loss), (said, said, variables, data)


def memory(name, chunk):
    """Bytes of the compiled program, beside its arguments."""
    function, arguments = program(name, chunk)
    analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


@pytest.mark.parametrize("name", CASES)
def test_peak_memory_is_a_small_part_of_the_dense_forms(name):
    """4,096 tokens and 32,768 classes, of which float32 logits are half a gigabyte, compiled and not run."""
    whole = memory(name, 0)
    assert whole > 4096 * 32_768 * 4
    assert memory(name, 64) <= 0.05 * whole


@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_dense_logits(name):
    """The gradient is computed with the values: no logits are computed twice.

    But for those of `sampled_kl`, whose factor of a token may depend on tokens of later chunks: the student's are.
    """
    chunked, whole = (
        flops.count(function, *arguments) for function, arguments in (program(name, 64), program(name, 0))
    )
    assert chunked == {kind: n * (5 if name == "sampled_kl" else 4) // 4 for kind, n in whole.items()}


def test_values_alone_need_no_gradient():
    """Two products, of the student's and the teacher's logits."""
    method, data = make("forward_kl", 6), toy_outputs.batch("next_tokens")
    sides = [Output(unembedding(seed)) for seed in (0, 1)]
    counted = flops.count(lambda *sides: method.apply({}, *sides, data), *sides)
    assert counted == {"float32": 2 * 2 * ROWS * LENGTH * WIDTH * VOCABULARY}


def test_another_weighting_of_the_values_has_no_gradient():
    """Their mean may be scaled; a sum of other weights would have the wrong gradient by the kernel."""
    method, data = make("forward_kl", 5), toy_outputs.batch("next_tokens")
    sides, valid = [unembedding(seed) for seed in (0, 1)], method.valid(data)

    def gradient(weights, chunk):
        def loss(kernel):
            student, teacher = sides[0].replace(kernel=kernel), sides[1]
            return jnp.sum(weights * make("forward_kl", chunk).apply({}, Output(student), Output(teacher), data))

        return jax.grad(loss)(sides[0].kernel)

    np.testing.assert_allclose(gradient(-3 * valid, 5), gradient(-3 * valid, 0), rtol=1e-4, atol=1e-5)
    assert jnp.isnan(gradient(valid * jnp.arange(LENGTH)[None], 5)).all()


def test_a_batch_over_devices_stays_there():
    """Every device computes its part of every chunk: an eighth of the arithmetic, and no more memory than one."""
    mesh = Mesh(np.array(jax.devices()), "data")
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    said = unembedding(0, (8, 64), 512)

    def value(hidden, kernel):
        sides = Unembedding(hidden, kernel), Unembedding(-hidden, kernel)
        return jnp.mean(chunked.compare(lambda s, t: divergence.kl(t, s), *sides, chunk=64))

    def arithmetic(*shardings):
        compiled = jax.jit(jax.value_and_grad(value, (0, 1)), in_shardings=shardings).lower(said.hidden, said.kernel)
        return compiled.compile().cost_analysis()["flops"]

    assert arithmetic(split, whole) < arithmetic(whole, whole) / 4


def test_gradients_of_a_bfloat16_kernel_add_up_in_float32():
    """512 chunks that each add a little to what is there: in bfloat16 the sum would stop growing at 256 of them."""
    said = Unembedding(jnp.ones((512, 1), jnp.bfloat16), jnp.zeros((1, 2), jnp.bfloat16))

    def total(kernel, chunk):
        own = said.replace(kernel=kernel)
        return jnp.sum(chunked.compare(lambda logits, _: logits[..., 0], own, None, chunk=chunk))

    gradient = jax.grad(total)(said.kernel, 1)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient, [[512, 0]])


def test_bfloat16_products_add_up_in_float32():
    """301 is no bfloat16 number, 300 and 302 are."""
    hidden, kernel = jnp.ones((1, 301), jnp.bfloat16), jnp.ones((301, 1), jnp.bfloat16)
    logits = core.dense(Unembedding(hidden, kernel, jnp.full(1, 0.5, jnp.bfloat16)))
    assert logits.dtype == jnp.float32
    np.testing.assert_array_equal(logits, [[301.5]])


def test_further_inputs_of_a_loss_have_the_same_order():
    """Labels, a teacher that says a few classes, and no teacher."""
    student, teacher = jax.random.normal(jax.random.key(0), (2, 3, 7, 11))
    label = jax.random.randint(jax.random.key(1), (3, 7), 0, 11)

    def loss(own, other, label):
        picked = jnp.take_along_axis(own, label[..., None], -1)[..., 0]
        return picked if other is None else picked + topk.kl(other, own)

    for said in (topk.from_logits(teacher, 4), None):
        assert isinstance(said, TopK) or said is None
        expected = loss(student, said, label)
        np.testing.assert_allclose(chunked.compare(loss, student, said, label, chunk=4), expected, rtol=1e-6)


@pytest.mark.parametrize(("name", "field"), [("taid", "share"), ("gkd", "beta")])
def test_a_field_may_change_from_step_to_step(name, field):
    """It is traced then, and reaches into the chunks."""
    data, sides = toy_outputs.batch("next_tokens"), (Output(unembedding(0)), Output(unembedding(1)))

    @jax.jit
    def value(now):
        return make(name, 5).clone(**{field: now}).apply({}, *sides, data)

    for now in (0.3, 1.0):
        fixed = make(name).clone(**{field: now}).apply({}, *sides, data)
        np.testing.assert_allclose(value(now), fixed, rtol=1e-5, atol=1e-6)
