"""What an ensemble says, worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.networks import Ensemble

A, B = np.array([[0.2, 0.8], [0.2, 0.8]]), np.array([[0.6, 0.4], [0.6, 0.4]])
SAID = {"a": Output(jnp.log(jnp.asarray(A))), "b": Output(jnp.log(jnp.asarray(B)))}
BATCH = {"label": jnp.array([1, core.UNLABELLED])}


KEY = jax.random.key(0)


def said(key=KEY, **settings):
    return np.asarray(jax.nn.softmax(Ensemble(("a", "b"), **settings)({}, BATCH, SAID, key)[0].logits))


def mixed(share):
    share = np.asarray(share)[:, None]
    return share * A + (1 - share) * B


def softmax(a, b):
    return np.exp(a) / (np.exp(a) + np.exp(b))


def test_weights_of_members():
    np.testing.assert_allclose(said(member_weights=(3.0, 1.0)), mixed([0.75, 0.75]), rtol=1e-6)
    np.testing.assert_allclose(said(member_weights=(0.0, 2.0)), B, rtol=1e-6)


def test_confidence_is_in_the_label():
    """-log 0.8 against -log 0.4: the first member has the share 1 - 0.4 / 1.2 at K = 2; hidden labels share alike."""
    surprise = softmax(-np.log(0.8), -np.log(0.4))
    np.testing.assert_allclose(said(weighting="confidence"), mixed([1 - surprise, 0.5]), rtol=1e-6)
    soft = {"label": jnp.array([[0.0, 1.0], [0.0, 0.0]])}  # mixed labels, all on one class; and none
    got = Ensemble(("a", "b"), weighting="confidence")({}, soft, SAID, KEY)[0].logits
    np.testing.assert_allclose(jax.nn.softmax(got), mixed([1 - surprise, 0.5]), rtol=1e-6)


def test_entropy_and_agreement():
    entropies = [-(p * np.log(p)).sum(-1)[0] for p in (A, B)]
    share = softmax(-entropies[0], -entropies[1])
    np.testing.assert_allclose(said(weighting="entropy"), mixed([share] * 2), rtol=1e-6)
    mean = (A + B)[0] / 2
    gaps = [(mean * np.log(mean / p[0])).sum() for p in (A, B)]
    share = softmax(-gaps[0], -gaps[1])
    np.testing.assert_allclose(said(weighting="agreement"), mixed([share] * 2), rtol=1e-6)


def test_a_weighed_average_of_logits():
    got = said(average="logits", member_weights=(3.0, 1.0))
    expected = A**0.75 * B**0.25
    np.testing.assert_allclose(got, expected / expected.sum(-1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("weighting", ["confidence", "entropy", "agreement"])
def test_members_learn_through_their_outputs_and_not_through_their_weight(weighting):
    """With the weights held fixed, the derivative is that of the plain weighted mixture."""

    def loss(z, **settings):
        outputs = {"a": Output(z), "b": SAID["b"]}
        return Ensemble(("a", "b"), **settings)({}, BATCH, outputs, KEY)[0].logits[0, 0]

    z = SAID["a"].logits
    share = float((said(weighting=weighting)[0, 0] - B[0, 0]) / (A[0, 0] - B[0, 0]))
    fixed = jax.grad(loss)(z, member_weights=(share, 1 - share))
    np.testing.assert_allclose(jax.grad(loss)(z, weighting=weighting)[0], fixed[0], rtol=1e-4, atol=1e-6)


def test_members_of_other_classes_are_refused():
    outputs = SAID | {"b": Output(jnp.zeros((2, 3)))}
    with pytest.raises(UserError, match=r"same classes, got \{'a': \(2, 2\), 'b': \(2, 3\)\}"):
        Ensemble(("a", "b"))({}, BATCH, outputs, None)


def test_huge_logits_are_finite():
    outputs = {"a": Output(jnp.array([[1e4, -1e4]])), "b": Output(jnp.array([[-1e4, 1e4]]))}
    for weighting in ("equal", "confidence", "entropy", "agreement"):
        got = Ensemble(("a", "b"), weighting=weighting)({}, {"label": jnp.array([0])}, outputs, KEY)[0].logits
        assert np.isfinite(got).all(), weighting


def test_inference_sees_no_label():
    """An evaluation by labels that the ensemble knows would be one of the labels."""
    np.testing.assert_allclose(said(key=None, weighting="confidence"), mixed([0.5, 0.5]), rtol=1e-6)
    entropy = said(key=None, weighting="entropy")
    np.testing.assert_allclose(entropy, said(weighting="entropy"), rtol=1e-6)


def test_members_without_any_confidence_leave_the_fixed_weights():
    outputs = {"a": Output(jnp.array([[-1e4, 1e4]])), "b": Output(jnp.array([[1e4, -1e4]]))}
    batch = {"label": jnp.array([0])}  # the only member that counts is surely wrong
    got = Ensemble(("a", "b"), weighting="confidence", member_weights=(1.0, 0.0))({}, batch, outputs, KEY)[0].logits
    np.testing.assert_allclose(jax.nn.softmax(got), [[0.0, 1.0]])


def test_averages_of_probabilities_and_of_logits_by_hand():
    outputs = {"a": core.Output(jnp.log(jnp.array([[0.2, 0.8]]))), "b": core.Output(jnp.log(jnp.array([[0.6, 0.4]])))}
    said, _ = Ensemble(("a", "b"), "probabilities")({}, {}, outputs, None)
    np.testing.assert_allclose(jax.nn.softmax(said.logits), [[0.4, 0.6]], rtol=1e-6)
    said, _ = Ensemble(("a", "b"), "logits")({}, {}, outputs, None)
    geometric = np.sqrt([0.2 * 0.6, 0.8 * 0.4])
    np.testing.assert_allclose(jax.nn.softmax(said.logits)[0], geometric / geometric.sum(), rtol=1e-6)


def test_gaussians_are_mixed_by_their_moments():
    """Means 0 and 4 of weights 3/4 and 1/4, variances 1 and 5: mean 1, variance 3/4 (1 + 1) + 1/4 (5 + 9)."""
    members = {"a": Output(jnp.array([[0.0, 0.0]])), "b": Output(jnp.array([[4.0, np.log(5.0)]]))}
    source = Ensemble(("a", "b"), average="gaussian", member_weights=(3.0, 1.0))
    logits = source({}, {"label": jnp.array([0])}, members, None)[0].logits
    np.testing.assert_allclose(logits, [[1.0, np.log(5.0)]], rtol=1e-6)


def test_a_member_may_come_twice():
    got = Ensemble(("a", "a", "b"), member_weights=(1.0, 1.0, 2.0))({}, BATCH, SAID, None)[0].logits
    np.testing.assert_allclose(jax.nn.softmax(got), (A + B) / 2, rtol=1e-6)
