"""Laws that losses of logits obey for any logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxdistill.losses import divergence, ranking, topk
from jaxdistill.methods.class_wise_top_k import class_wise_top_k
from jaxdistill.methods.dist import dist
from jaxdistill.methods.dkd import dkd, tckd_nckd
from jaxdistill.methods.hard_label import hard_label
from jaxdistill.methods.kd import kd
from jaxdistill.methods.logit_regression import centre, logit_regression
from jaxdistill.methods.logit_standardization import standardize
from jaxdistill.methods.mlkd import batch_relation, class_relation
from jaxdistill.methods.nkd import nkd
from jaxdistill.methods.ranking import rank
from jaxdistill.methods.teacher_free import teacher_free
from jaxdistill.methods.total_variation import total_variation
from jaxdistill.methods.wsld import wsld

ROWS, CLASSES = 3, 5
LABEL, MASK = jnp.array([0, 2, 4]), jnp.ones(ROWS)

logits = arrays(np.float32, (ROWS, CLASSES), elements=st.floats(-20, 20, width=32))
pairs = st.tuples(logits, logits)
checked = settings(deadline=None, max_examples=25)

# Compiled once for all examples of a law.
kl, variation = jax.jit(divergence.kl), jax.jit(divergence.total_variation)
decoupled, logsumexp = jax.jit(tckd_nckd), jax.jit(functools.partial(jax.nn.logsumexp, axis=-1))
top_k, kl_of_top_k = jax.jit(topk.from_logits, static_argnums=1), jax.jit(topk.kl)


@checked
@given(pairs)
def test_kl_is_not_negative_and_0_where_the_distributions_are_equal(x):
    teacher, student = map(jnp.asarray, x)
    assert (kl(teacher, student) > -1e-5).all()
    np.testing.assert_allclose(kl(teacher, teacher + 1), 0, atol=1e-5)


@checked
@given(pairs)
def test_kl_is_0_only_where_the_distributions_are_equal(x):
    """Pinsker: it is at least twice the squared total variation."""
    teacher, student = map(jnp.asarray, x)
    assert (kl(teacher, student) >= 2 * variation(teacher, student) ** 2 - 1e-5).all()


@checked
@given(pairs)
def test_total_variation_is_a_bounded_distance(x):
    one, other = map(jnp.asarray, x)
    found = variation(one, other)
    assert ((found >= 0) & (found <= 1 + 1e-6)).all()
    np.testing.assert_allclose(found, variation(other, one), atol=1e-7)
    np.testing.assert_array_equal(variation(one, one), 0)


@checked
@given(pairs)
def test_decoupled_parts_add_up_to_kd(x):
    """Zhao et al. 2022, equation 7: KL = TCKD + (1 - p_y) NCKD."""
    teacher, student = map(jnp.asarray, x)
    tckd, nckd = decoupled(student, teacher, LABEL)
    others = jnp.exp(logsumexp(np.where(np.eye(CLASSES)[LABEL] > 0, np.float32(-np.inf), x[0])))
    rest = others / jnp.exp(logsumexp(teacher))
    np.testing.assert_allclose(tckd + rest * nckd, kl(teacher, student), rtol=1e-3, atol=1e-4)


@checked
@given(pairs, st.integers(1, CLASSES))
def test_top_k_is_at_most_kl_and_all_classes_are_all_of_it(x, k):
    teacher, student = map(jnp.asarray, x)
    whole = kl(teacher, student)
    assert (kl_of_top_k(top_k(teacher, k), student) <= whole + 1e-4).all()
    np.testing.assert_allclose(kl_of_top_k(top_k(teacher, CLASSES), student), whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kl_of_top_k(top_k(teacher, k), teacher), 0, atol=1e-5)


@checked
@given(logits, st.integers(1, CLASSES))
def test_a_top_k_is_a_whole_distribution(x, k):
    said = top_k(jnp.asarray(x), k)
    np.testing.assert_allclose(jnp.sum(jnp.exp(said.values), -1) + jnp.exp(said.log_rest), 1, rtol=1e-5)


@checked
@given(logits)
def test_temperature_to_infinity_is_centred_logit_regression(x):
    """Hinton et al. 2015, section 2.1: K T^2 KL tends to half the squared difference of centred logits."""
    student, teacher = jnp.asarray(x) / 10, jnp.flip(jnp.asarray(x), -1) / 10
    expected = logit_regression(centre(student), centre(teacher))
    with jax.enable_x64(True):
        found = CLASSES * kd(student.astype("float64"), teacher.astype("float64"), 1e4)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)


@checked
@given(logits, st.floats(0.1, 10), st.floats(-5, 5))
def test_standardised_logits_have_neither_scale_nor_place(x, scale, shift):
    logits = jnp.asarray(x)
    assume(np.std(x, -1).min() > 0.1)
    found = standardize(logits)
    np.testing.assert_allclose(jnp.std(found, -1, ddof=1), 1, rtol=1e-4)
    np.testing.assert_allclose(standardize(scale * logits + shift), found, atol=1e-3)


LOSSES = {
    "kd": lambda s, t: kd(s, t, 4.0),
    "standardised": lambda s, t: kd(standardize(s), standardize(t), 2.0),
    "hard_label": hard_label,
    "logit_regression, centred": lambda s, t: logit_regression(centre(s), centre(t)),
    "dkd": lambda s, t: dkd(s, t, LABEL, 4.0, 1.0, 8.0),
    "nkd": lambda s, t: nkd(s, t, LABEL, 1.0, 1.5),
    "dist": lambda s, t: sum(dist(s, t, MASK, 4.0)),
    "mlkd, batch": lambda s, t: batch_relation(s, t, MASK, 4.0),
    "mlkd, classes": lambda s, t: class_relation(s, t, MASK, 4.0),
    "wsld": lambda s, t: wsld(s, t, LABEL, 2.0),
    "teacher_free": lambda s, t: teacher_free(s, LABEL, 0.99, 20.0),
    "class_wise_top_k": lambda s, t: class_wise_top_k(s, t, 2, 1.0),
    "total_variation": total_variation,
    "ranking, hinge": lambda s, t: rank(s, t, "hinge"),
    "ranking, logistic": lambda s, t: rank(s, t, "logistic"),
}


@functools.cache
def compiled_loss(name):
    return jax.jit(LOSSES[name])


@pytest.mark.parametrize("name", LOSSES)
@settings(deadline=None, max_examples=8)
@given(st.integers(0, 1000), st.integers(-8, 8), st.integers(-8, 8))
def test_a_shift_of_all_logits_changes_nothing(name, seed, one, other):
    # A grid of 1/64, so that a shift is exact: the order of the classes, and nothing else, decides argmax and ranking.
    student, teacher = jnp.round(64 * jax.random.normal(jax.random.key(seed), (2, ROWS, CLASSES))) / 64
    loss = compiled_loss(name)
    np.testing.assert_allclose(loss(student + one, teacher + other), loss(student, teacher), rtol=1e-4, atol=2e-5)


@checked
@given(pairs)
def test_of_two_classes_one_is_first(x):
    scores = jnp.asarray(x[0])
    before = ranking.order(scores)
    equal = scores[:, :, None] == scores[:, None, :]
    np.testing.assert_array_equal(before.astype(int) + before.swapaxes(-1, -2) + equal, 1)
