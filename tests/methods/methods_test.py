"""The two methods of the main job, worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import UNLABELLED, Output
from jaxdistill.errors import UserError
from jaxdistill.methods.cross_entropy import CrossEntropy, cross_entropy
from jaxdistill.methods.kd import KD, kd

LOGITS = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]))


def test_cross_entropy_with_indices_and_with_distributions():
    np.testing.assert_allclose(cross_entropy(LOGITS, jnp.array([0, 1]), 0.0), [np.log(2), np.log(8)], rtol=1e-6)
    soft = jnp.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(cross_entropy(LOGITS, soft, 0.0), [1.5 * np.log(2), np.log(8)], rtol=1e-6)


def test_label_smoothing_spreads_over_all_classes():
    smoothed = 0.7 * np.log(2) + 0.1 * (np.log(2) + np.log(4) + np.log(4))
    np.testing.assert_allclose(cross_entropy(LOGITS[:1], jnp.array([0]), 0.3), [smoothed], rtol=1e-6)


def test_unlabelled_examples_do_not_count():
    mask = jnp.array([1.0, 1.0, 0.0])
    hard = {"label": jnp.array([2, UNLABELLED, 0]), "mask": mask}
    soft = {"label": jnp.array([[0, 0.4, 0.6], [0, 0, 0], [1.0, 0, 0]]), "mask": mask}
    for batch in (hard, soft):
        np.testing.assert_array_equal(CrossEntropy().valid(batch), [1, 0, 0])


def test_cross_entropy_of_pixels():
    logits, label = jax.random.normal(jax.random.key(0), (2, 3, 3, 4)), jnp.zeros((2, 3, 3), int).at[0, 0, 0].set(-1)
    batch = {"label": label, "mask": jnp.array([1.0, 0.0])}
    values = CrossEntropy().apply({}, Output(logits), None, batch)
    assert values.shape == (2, 3, 3)
    assert CrossEntropy().valid(batch).sum() == 8


def test_kd_by_hand():
    """At T = 2 the distributions are the square roots, normalised."""
    teacher, student = jnp.log(jnp.array([[0.64, 0.36]])), jnp.log(jnp.array([[0.36, 0.64]]))
    p, q = np.array([0.8, 0.6]) / 1.4, np.array([0.6, 0.8]) / 1.4
    np.testing.assert_allclose(kd(student, teacher, 2.0), [4 * np.sum(p * np.log(p / q))], rtol=1e-5)


def test_temperature_to_infinity_is_logit_matching():
    """Hinton et al. 2015, section 2.1: T^2 KL tends to the mean squared difference of centred logits over 2."""
    student, teacher = jax.random.normal(jax.random.key(0), (2, 6, 5))
    centred = [x - x.mean(-1, keepdims=True) for x in (student, teacher)]
    expected = jnp.mean((centred[0] - centred[1]) ** 2, -1) / 2
    np.testing.assert_allclose(kd(student, teacher, 300.0), expected, rtol=3e-2)


@pytest.mark.parametrize("method", [KD(temperature=0.0), KD(temperature=-1.0), CrossEntropy(1.0), CrossEntropy(-0.1)])
def test_invalid_fields_are_refused(method):
    with pytest.raises(UserError, match="makes no sense|must"):
        method.check()
