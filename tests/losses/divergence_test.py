"""Divergences: worked by hand, at the extremes, and by law."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.losses import divergence, mixture, topk


def test_kl_by_hand():
    teacher, student = jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.log(jnp.array([[0.25, 0.25, 0.5]]))
    expected = 0.5 * np.log(2) + 0.25 * np.log(1) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(divergence.kl(teacher, student), [expected], rtol=1e-6)


def test_cross_entropy_by_hand():
    target, logits = jnp.array([[0.5, 0.5, 0.0]]), jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    np.testing.assert_allclose(divergence.cross_entropy(target, logits), [1.5 * np.log(2)], rtol=1e-6)


def test_a_shift_of_all_logits_changes_nothing():
    teacher, student = jax.random.normal(jax.random.key(0), (2, 5, 7))
    np.testing.assert_allclose(divergence.kl(teacher + 3, student - 5), divergence.kl(teacher, student), atol=1e-6)


def test_values_keep_every_leading_axis():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    assert divergence.kl(x, -x).shape == (2, 3, 4)
    np.testing.assert_allclose(divergence.kl(x, -x)[1, 2], divergence.kl(x[1, 2], -x[1, 2]), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("gap", [0.0, 18.0, 105.0, 1e4])
def test_finite_with_the_right_gradient_at_any_gap(gap, dtype):
    """Where a library takes the log of a softmax it is infinite from gap 105 on, and its gradient NaN."""
    student, teacher = jnp.array([[0.0, gap, 0.0]], dtype), jnp.array([[gap, 0.0, 0.0]], dtype)
    value, gradient = jax.jit(jax.value_and_grad(lambda s: divergence.kl(teacher, s).sum()))(student)
    p, q = jax.nn.softmax(teacher.astype(jnp.float32)), jax.nn.softmax(student.astype(jnp.float32))
    assert np.isfinite(value)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(gradient.astype(jnp.float32), q - p, atol=1e-2 if dtype == jnp.bfloat16 else 1e-6)
    if gap >= 105:
        np.testing.assert_allclose(value, float(dtype(gap)), rtol=1e-6)  # p log(p/q) = gap


def test_nothing_to_learn_at_equality():
    x = 10 * jax.random.normal(jax.random.key(1), (4, 9))
    value, gradient = jax.value_and_grad(lambda s: divergence.kl(x, s).sum())(x)
    assert value == 0
    np.testing.assert_allclose(gradient, jnp.zeros_like(x), atol=1e-6)


KEPT = jnp.array([[True, False, True, True], [False, True, True, False]])


@pytest.mark.parametrize("loss", [divergence.kl, divergence.soft_cross_entropy])
def test_over_some_classes_it_is_that_of_these_classes_alone(loss):
    """And the left-out logits, however large, are not seen and have no gradient."""
    teacher, student = jax.random.normal(jax.random.key(2), (2, 2, 4))
    large = jnp.where(KEPT, student, 1e4)
    value, gradient = jax.jit(jax.value_and_grad(lambda s: loss(teacher, s, KEPT).sum()))(large)
    expected = [loss(teacher[i][KEPT[i]], student[i][KEPT[i]]) for i in (0, 1)]
    np.testing.assert_allclose(value, sum(expected), rtol=1e-6)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(jnp.where(KEPT, 0.0, gradient), 0)


def test_soft_cross_entropy_is_kl_and_entropy():
    teacher, student = jax.random.normal(jax.random.key(3), (2, 5, 6))
    p = jax.nn.softmax(teacher)
    expected = divergence.kl(teacher, student) - jnp.sum(p * jnp.log(p), -1)
    np.testing.assert_allclose(divergence.soft_cross_entropy(teacher, student), expected, rtol=1e-5)


def test_total_variation_by_hand():
    teacher, student = jnp.log(jnp.array([[0.5, 0.3, 0.2]])), jnp.log(jnp.array([[0.2, 0.4, 0.4]]))
    np.testing.assert_allclose(divergence.total_variation(teacher, student), [0.3], rtol=1e-6)


def test_binary_kl_by_hand():
    """sigmoid(log 3) = 3/4 and sigmoid(-log 3) = 1/4."""
    teacher, student = jnp.array([np.log(3), 0.0]), jnp.array([-np.log(3), 0.0])
    expected = [0.75 * np.log(3) + 0.25 * np.log(1 / 3), 0.0]
    np.testing.assert_allclose(divergence.binary_kl(teacher, student), expected, atol=1e-6)
    assert np.isfinite(jax.jit(jax.grad(lambda x: divergence.binary_kl(x, -x).sum()))(jnp.array([1e4, -1e4]))).all()


RULED_OUT = jnp.array([[2.0, 1.0, 0.0, -jnp.inf]])
STUDENT = jnp.array([[0.5, 0.2, -0.3, 0.1]])


def test_a_class_that_the_teacher_rules_out_adds_nothing():
    value, gradient = jax.jit(jax.value_and_grad(lambda s: divergence.kl(RULED_OUT, s).sum()))(STUDENT)
    np.testing.assert_allclose(value, 0.364032, atol=1e-6)
    np.testing.assert_allclose(gradient, jax.nn.softmax(STUDENT) - jax.nn.softmax(RULED_OUT), atol=1e-6)


def test_a_class_that_both_rule_out_is_none():
    student = jnp.where(jnp.isfinite(RULED_OUT), STUDENT, -jnp.inf)
    values, gradients = jax.jit(jax.value_and_grad(lambda s, t: divergence.kl(t, s).sum(), (0, 1)))(student, RULED_OUT)
    expected, wanted = jax.jit(jax.value_and_grad(lambda s, t: divergence.kl(t, s).sum(), (0, 1)))(
        STUDENT[:, :3], RULED_OUT[:, :3]
    )
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    for got, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got, jnp.pad(want, [(0, 0), (0, 1)]), atol=1e-7)


def test_infinite_where_the_student_rules_out_what_the_teacher_does_not():
    """And the gradients are finite, so that a mask may leave such a prediction out."""
    value, gradients = jax.jit(jax.value_and_grad(lambda s, t: divergence.kl(t, s).sum(), (0, 1)))(RULED_OUT, STUDENT)
    assert value == jnp.inf
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_no_class_at_all_is_not_a_number():
    value, gradient = jax.jit(jax.value_and_grad(lambda s: divergence.kl(jnp.full((1, 4), -jnp.inf), s).sum()))(STUDENT)
    assert jnp.isnan(value)
    assert np.isfinite(gradient).all()
    assert jnp.isnan(divergence.kl(jnp.full((1, 4), jnp.nan), STUDENT)).all()


@pytest.mark.parametrize("temperature", [1.0, 30.0, 1e3, 1e4])
def test_kl_is_right_near_equality(temperature):
    """A sum of p (log p - log q) gives 0.692 and -20.1 in place of 0.734."""
    teacher, student = np.random.default_rng(0).normal(size=(2, 20, 50)).astype(np.float32)
    scaled = [side.astype(np.float64) / temperature for side in (teacher, student)]
    log_p, log_q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in scaled)
    expected = (np.exp(log_p) * (np.expm1(log_q - log_p) - (log_q - log_p))).sum(-1)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=1, has_aux=True)
    def loss(teacher, student):
        value = divergence.kl(teacher / temperature, student / temperature)
        return value.sum(), value

    (_, value), gradient = loss(teacher, student)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(gradient * temperature, np.exp(log_q) - np.exp(log_p), rtol=1e-2, atol=1e-8)


def test_one_class_against_the_rest_is_right_at_temperature_1e4():
    """Two logsumexps of the rest, which cancel, were 2 % off; a class that no side can have is none of the rest."""
    sides = np.random.default_rng(0).normal(size=(2, 20, 500)).astype(np.float32)
    sides[..., 5] = -np.inf
    one = jnp.tile(jnp.arange(500) == 3, (20, 1))

    @jax.jit
    def value(teacher, student):
        return divergence.one_against_rest_kl(teacher / 1e4, student / 1e4, one)

    with jax.enable_x64(True):
        p, q = np.asarray(jax.nn.softmax(jnp.float64(sides) / 1e4))[..., 3]
        exact = np.asarray(value(*jnp.float64(sides)))
    np.testing.assert_allclose(exact, p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)), rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(value(*sides), exact, rtol=1e-4)
    gradients = jax.jit(jax.grad(lambda t, s: value(t, s).sum(), (0, 1)))(*sides)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    np.testing.assert_allclose(gradients[1][:, 3] * 1e4, (q - p), rtol=1e-3, atol=1e-9)


def test_cross_entropies_leave_out_what_no_target_has():
    gradient = jax.jit(jax.grad(lambda s: divergence.soft_cross_entropy(RULED_OUT, s).sum()))(RULED_OUT)
    np.testing.assert_allclose(gradient, jnp.zeros((1, 4)), atol=1e-6)
    target = jnp.array([[0.5, 0.5, 0.0, 0.0]])
    expected = divergence.cross_entropy(target[:, :3], RULED_OUT[:, :3])
    np.testing.assert_allclose(divergence.cross_entropy(target, RULED_OUT), expected, rtol=1e-6)


def test_binary_kl_of_a_certain_outcome():
    """-log sigmoid(1) of a certain yes, and of a certain no at -1."""
    teacher, student = jnp.array([jnp.inf, -jnp.inf, jnp.inf]), jnp.array([1.0, -1.0, jnp.inf])
    value, gradient = jax.vmap(jax.value_and_grad(divergence.binary_kl, 1))(teacher, student)
    np.testing.assert_allclose(value, [0.313262, 0.313262, 0.0], rtol=1e-5)
    np.testing.assert_allclose(gradient, [-0.268941, 0.268941, 0.0], rtol=1e-5)


NEAR_LOSSES = {
    "binary_kl": lambda t, s: divergence.binary_kl(t, s).sum(-1) * 1e8,
    "total_variation": lambda t, s: divergence.total_variation(t, s) * 1e4,
    "jensen_shannon": lambda t, s: mixture.jensen_shannon(t, s, 0.3) * 1e8,
    "skew": lambda t, s: mixture.kl(t, s, 0.9) * 1e8,
    "top_k": lambda t, s: topk.kl(topk.from_logits(t, 3), s) * 1e8,
    "top_k of all": lambda t, s: topk.kl(topk.from_logits(t, 50), s) * 1e8,
}


@pytest.mark.slow
@pytest.mark.parametrize("loss", NEAR_LOSSES.values(), ids=NEAR_LOSSES)
def test_other_divergences_are_right_at_temperature_1e4(loss):
    teacher, student = np.random.default_rng(1).normal(size=(2, 20, 50)).astype(np.float32)
    with jax.enable_x64(True):
        exact = np.asarray(loss(*(jnp.asarray(side.astype(np.float64) / 1e4) for side in (teacher, student))))
    value = loss(jnp.asarray(teacher) / 1e4, jnp.asarray(student) / 1e4)
    np.testing.assert_allclose(np.mean(value), np.mean(exact), rtol=1e-3)
    np.testing.assert_allclose(value, exact, rtol=2e-2)
