"""Likelihoods of spans and KLs of matched tokens, worked by hand; and equal tokenizers, which have the plain KL."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.core import Output, Unembedding
from jaxdistill.errors import UserError
from jaxdistill.methods.alm import ALM, alm
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.networks.respelled import Respelled

# The student writes a span of one token, 3, and one of two, 1 and 2; the teacher 2, and 4 alone.
BATCH = align_next_tokens(
    {
        "tokens": jnp.array([[0, 3, 1, 2, 0]]),
        "answer_mask": jnp.array([[0, 1, 1, 1, 0]]),
        "token_mask": jnp.array([[1, 1, 1, 1, 0]]),
        "span": jnp.array([[-1, 0, 1, 1, -1]]),
        "teacher_tokens": jnp.array([[1, 0, 2, 4]]),
        "teacher_answer_mask": jnp.array([[0, 0, 1, 1]]),
        "teacher_span": jnp.array([[-1, -1, 0, 1]]),
        "mask": jnp.ones(1),
        "index": jnp.arange(1),
    }
)
MAP = (1, -1, 0, 2)
"""The student's tokens 0, 2 and 3 are the teacher's 1, 0 and 2; token 1 is none."""
STUDENT, TEACHER = (jax.random.normal(jax.random.key(n), (1, *shape)) for n, shape in enumerate([(5, 4), (4, 5)]))


def kl(p, q):
    return np.sum(p * (np.log(p) - np.log(q)))


def test_a_text_by_hand():
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in map(np.float64, (TEACHER[0], STUDENT[0])))
    output = Respelled("big", token_map=MAP)({}, BATCH, {"big": Output(TEACHER)}, None)[0]
    method = ALM()
    assert method.valid(BATCH).tolist() == [[1, 0, 1, 0, 0]]
    values = method.apply({}, Output(STUDENT), output, BATCH)[0]
    matched = [np.array([*x[i, ids], 1 - x[i, ids].sum()]) for x, i, ids in ((p, 1, [1, 0, 2]), (q, 0, [0, 2, 3]))]
    np.testing.assert_allclose(values[0], kl(*matched), rtol=1e-5)
    spans = [np.array([x, 1 - x]) for x in (p[2, 4], q[1, 1] * q[2, 2])]
    np.testing.assert_allclose(values[2], kl(*spans), rtol=1e-5)
    tempered = [np.array([x[0] ** 0.5, 1 - x[0] ** 0.5]) for x in spans]
    got = ALM(temperature=2.0).apply({}, Output(STUDENT), output, BATCH)[0, 2]
    np.testing.assert_allclose(got, kl(*tempered), rtol=1e-5)
    assert np.isfinite(alm(jnp.zeros(()), jnp.log(0.5), 1.0))


def test_heads_and_chunks_change_nothing():
    def value(student, chunk):
        heads = Unembedding(TEACHER, jnp.eye(5)) if chunk else TEACHER
        output = Respelled("big", chunk=chunk, token_map=MAP)({}, BATCH, {"big": Output(heads)}, None)[0]
        method = ALM(chunk=chunk)
        return core.mean(method.apply({}, Output(student), output, BATCH), method.valid(BATCH))

    expected, got = (jax.value_and_grad(value)(STUDENT, number) for number in (0, 2))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), got, expected)
    step = 1e-3 * jnp.sin(jnp.arange(20.0)).reshape(1, 5, 4)
    difference = (value(STUDENT + step, 0) - value(STUDENT - step, 0)) / 2
    np.testing.assert_allclose(difference, jnp.sum(step * got[1]), rtol=2e-2)


def test_equal_tokenizers_have_the_plain_kl_to_the_bit():
    tokens = {name: BATCH[name] for name in ("tokens", "answer_mask", "token_mask")}
    span = jnp.array([[-1, 0, 1, 2, -1]])
    batch = align_next_tokens(
        {**tokens, **{f"teacher_{name}": x for name, x in tokens.items()}, "span": span, "teacher_span": span}
        | {"mask": jnp.ones(1), "index": jnp.arange(1)}
    )
    teacher = STUDENT[:, ::-1] * 2

    def value(method, batch, teacher):
        def loss(student):
            return core.mean(method.apply({}, Output(student), teacher, batch), method.valid(batch))

        return jax.value_and_grad(loss)(STUDENT)

    same = align_next_tokens({**tokens, "mask": jnp.ones(1), "index": jnp.arange(1)})
    expected = value(ForwardKL(), same, Output(teacher))
    respelled = Respelled("big", token_map=(0, 1, 2, 3))({}, batch, {"big": Output(teacher)}, None)[0]
    for got in (value(ALM(), batch, respelled), value(ALM(), same, Output(teacher))):
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


def test_mistakes():
    with pytest.raises(UserError, match="teacher must be a network of source 'respelled' for texts with spans"):
        ALM().apply({}, Output(STUDENT), Output(STUDENT), BATCH)
