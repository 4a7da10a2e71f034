"""The estimators of a sampled KL, in the mean over all tokens and all texts of a small vocabulary."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.losses import divergence
from jaxdistill.methods.sampled_kl import SampledKL

V = 4
STUDENT, TEACHER = (jax.random.normal(jax.random.key(seed), (V,)) * 1.5 for seed in (0, 1))


def value(method, student, teacher, label, **fields):
    batch = {"label": label, "mask": jnp.ones(len(label)), **fields}
    return method.apply({}, Output(student), Output(teacher), batch)


def expectation(method):
    """Returns the mean value and gradient over a token drawn from the student."""
    labels, weights = jnp.arange(V), jax.nn.softmax(STUDENT)

    def mean(logits):
        return jnp.sum(weights * value(method, jnp.tile(logits, (V, 1)), jnp.tile(TEACHER, (V, 1)), labels))

    return jax.value_and_grad(mean)(STUDENT)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_mean_over_tokens_is_the_kl_and_its_gradient_the_stated_one(estimator):
    found, gradient = expectation(SampledKL(estimator=estimator))
    np.testing.assert_allclose(found, divergence.kl(STUDENT, TEACHER), rtol=1e-5)
    exact = {"k1": lambda z: divergence.kl(z, TEACHER), "k3": lambda z: divergence.kl(TEACHER, z)}[estimator]
    np.testing.assert_allclose(gradient, jax.grad(exact)(STUDENT), rtol=1e-4, atol=1e-6)


def test_the_gradient_of_k3_is_biased_for_its_own_value():
    gradient = expectation(SampledKL(estimator="k3"))[1]
    exact = jax.grad(lambda z: divergence.kl(z, TEACHER))(STUDENT)
    assert np.abs(gradient - exact).max() > 0.05


def test_the_mean_over_all_texts_is_the_gradient_of_the_kl_of_texts():
    # The second token's distribution depends on the first: only "sequence" sees what an early token costs later.
    keys = jax.random.split(jax.random.key(2), 2)
    student, teacher = (
        {"first": z, "second": jax.random.normal(k, (V, V))} for z, k in zip((STUDENT, TEACHER), keys, strict=True)
    )
    texts = jnp.array(list(itertools.product(range(V), repeat=2)))

    def logits_of(params):
        return jnp.stack([jnp.tile(params["first"], (V * V, 1)), params["second"][texts[:, 0]]], 1)

    def log_prob(params):
        logs = jax.nn.log_softmax(logits_of(params))
        return jnp.take_along_axis(logs, texts[..., None], -1)[..., 0].sum(-1)

    def exact(params):
        own = log_prob(params)
        return jnp.sum(jnp.exp(own) * (own - log_prob(teacher)))

    weights = jnp.exp(log_prob(student))
    valid = jnp.ones(texts.shape)

    def sampled(params, per):
        values = value(SampledKL(per=per), logits_of(params), logits_of(teacher), texts, valid=valid)
        return jnp.sum(weights[:, None] * values)

    expected = jax.grad(exact)(student)
    found = jax.grad(sampled)(student, "sequence")
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-6)
    assert np.abs(jax.grad(sampled)(student, "token")["first"] - expected["first"]).max() > 0.02
    np.testing.assert_allclose(sampled(student, "sequence"), exact(student), rtol=1e-5)


def test_texts_of_the_data_do_not_count_beside_written_ones():
    batch = {"label": jnp.zeros((2, 3), jnp.int32), "mask": jnp.ones(2), "valid": jnp.ones((2, 3))}
    assert SampledKL().valid(batch | {"written": jnp.array([0, 1])}).tolist() == [[0] * 3, [1] * 3]
    assert SampledKL().valid(batch).tolist() == [[1] * 3] * 2


def test_extreme_ratios_are_finite():
    student, teacher = jnp.array([[-1e4, 0.0]]), jnp.array([[0.0, -1e4]])
    result = value(SampledKL(estimator="k3"), student, teacher, jnp.array([0]))
    assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(estimator="k2"), "estimator must be .*'k1'"),
        (dict(per="text"), "per must be .*'sequence'"),
        (dict(estimator="k3", per="sequence"), "per must be 'token' with estimator 'k3', got 'sequence'"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        SampledKL(**fields).check()
