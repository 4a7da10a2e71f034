"""Weightings of the members of an ensemble."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import UNLABELLED
from jaxdistill.modules.weightings import WEIGHTINGS, agreement, confidence, entropy, equal, reads_labels

MEMBERS = jnp.log(jnp.array([[[0.2, 0.8]], [[0.6, 0.4]]]))
"""Log-probabilities `[members, batch, classes]`."""


def test_equal_weights_are_one():
    np.testing.assert_array_equal(equal(MEMBERS), [[1.0], [1.0]])


def test_confidence_by_hand():
    """The surprises -log 0.8 and -log 0.4 have the softmax 1/3 and 2/3."""
    np.testing.assert_allclose(confidence(MEMBERS, jnp.array([1])), [[2 / 3], [1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(confidence(MEMBERS, jnp.array([[0.0, 1.0]])), [[2 / 3], [1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("label", [jnp.array([UNLABELLED]), jnp.zeros((1, 2))])
def test_confidence_is_equal_without_a_label(label):
    np.testing.assert_allclose(confidence(MEMBERS, label), [[0.5], [0.5]])
    np.testing.assert_allclose(confidence(MEMBERS[:1], jnp.array([1])), [[1.0]])


def test_entropy_and_agreement_by_hand():
    p = np.exp(MEMBERS)[:, 0]
    weights = np.exp((p * np.log(p)).sum(-1))
    np.testing.assert_allclose(entropy(MEMBERS)[:, 0], weights / weights.sum(), rtol=1e-6)
    mean = p.mean(0)
    weights = np.exp(-(mean * np.log(mean / p)).sum(-1))
    np.testing.assert_allclose(agreement(MEMBERS)[:, 0], weights / weights.sum(), rtol=1e-6)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weights_are_finite_at_huge_gaps_and_have_no_class_axis(name):
    log_probs = jnp.array([[[0.0, -1e4]], [[-1e4, 0.0]]])
    weighting = WEIGHTINGS[name]
    weights = weighting(log_probs, **({"label": jnp.array([0])} if reads_labels(weighting) else {}))
    assert weights.shape == (2, 1)
    assert np.isfinite(weights).all()
    assert reads_labels(weighting) == (name == "confidence")
