"""Losses of predicted distributions of a number, against SciPy, integrals and values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxdistill.losses import regression

OUTPUT = np.array([[0.5, -1.0], [-2.0, 0.0], [3.0, 2.0]])
OTHER = np.array([[0.0, 0.5], [-2.0, 1.0], [2.0, -1.5]])


def normals(output):
    return [stats.norm(mean, np.exp(log / 2)) for mean, log in output]


def test_likelihood_is_that_of_scipy():
    target = np.array([0.0, 1.0, -1.0])
    expected = [-normal.logpdf(y) for normal, y in zip(normals(OUTPUT), target, strict=True)]
    np.testing.assert_allclose(regression.gaussian_nll(jnp.array(OUTPUT), jnp.array(target)), expected, rtol=1e-5)


def test_kl_is_its_integral_and_0_with_gradient_0_for_equal_gaussians():
    def integrand(y, p, q):
        return p.pdf(y) * (p.logpdf(y) - q.logpdf(y))

    pairs = zip(normals(OTHER), normals(OUTPUT), strict=True)
    expected = [
        integrate.quad(integrand, p.mean() - 12 * p.std(), p.mean() + 12 * p.std(), (p, q))[0] for p, q in pairs
    ]
    value = regression.gaussian_kl(jnp.array(OTHER), jnp.array(OUTPUT))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    same = jnp.array(OUTPUT)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(regression.gaussian_kl(same, x))))(same)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_kl_of_means_and_variances_by_hand():
    """Equal variances v: d^2 / 2v. Equal means, variances 1 and e: (1/e + 1 - 1) / 2."""
    teacher, student = jnp.array([[1.0, np.log(4)], [0, 0]]), jnp.array([[3.0, np.log(4)], [0, 1]])
    np.testing.assert_allclose(regression.gaussian_kl(teacher, student), [0.5, 1 / (2 * np.e)], rtol=1e-6)


@pytest.mark.parametrize("log_variance", [-1e4, 1e4])
def test_the_log_variance_is_bounded(log_variance):
    output = jnp.array([[1e4, log_variance]])

    def loss(x):
        return jnp.sum(regression.gaussian_nll(x, jnp.zeros(1)) + regression.gaussian_kl(output, x))

    value, gradient = jax.jit(jax.value_and_grad(loss))(output)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_levels_are_midpoints():
    np.testing.assert_allclose(regression.levels(5), [0.1, 0.3, 0.5, 0.7, 0.9])


def test_pinball_by_hand():
    """Levels 1/4 and 3/4, target 1: quantile 0 costs 1/4, quantile 3 costs (3/4 - 1)(1 - 3) = 1/2."""
    value = regression.pinball(jnp.array([[0.0, 3.0]]), jnp.array([1.0]))
    np.testing.assert_allclose(value, [(0.25 + 0.5) / 2])


def test_the_pinball_loss_is_least_at_the_quantiles():
    draw = np.random.default_rng(0).normal(size=20_001)
    levels = regression.levels(4)
    best = np.quantile(draw, levels)

    def loss(quantiles):
        return jnp.mean(regression.pinball(jnp.broadcast_to(quantiles, (len(draw), 4)), jnp.asarray(draw)))

    gradient = jax.jit(jax.grad(loss))(jnp.asarray(best))
    np.testing.assert_allclose(gradient, 0, atol=1e-4)
    assert loss(best + 0.3) > loss(best) < loss(best - 0.3)


def test_quantiles_of_the_teacher_in_order_are_the_minimum_of_the_student():
    teacher = jnp.array([[2.0, -1.0, 5.0]])
    at_minimum = jax.jit(jax.grad(lambda x: jnp.sum(regression.quantile_pinball(teacher, x))))(jnp.sort(teacher))
    np.testing.assert_allclose(at_minimum, 0, atol=1e-7)
    by_hand = np.mean(
        [
            max(level * (t - s), (level - 1) * (t - s))
            for s, level in zip([0.0, 1.0], [0.25, 0.75], strict=True)
            for t in (2.0, -1.0, 5.0)
        ]
    )
    np.testing.assert_allclose(regression.quantile_pinball(teacher, jnp.array([[0.0, 1.0]])), [by_hand], rtol=1e-6)


def test_means_and_medians():
    quantiles = jnp.array([[5.0, 1.0, 0.0]])
    assert regression.mean_of(quantiles, "quantiles") == 2
    assert regression.median_of(quantiles, "quantiles") == 1
    assert regression.mean_of(jnp.array([[5.0, 1.0]]), "gaussian") == 5
    assert regression.median_of(jnp.array([[5.0, 1.0]]), "gaussian") == 5
