"""Averages of the logits of several networks, in every form that networks have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.core import Unembedding
from jaxdistill.errors import UserError
from jaxdistill.losses import chunked, divergence, topk
from jaxdistill.modules.averaged_logits import Average, AveragedLogits, average_logits
from jaxdistill.modules.weightings import WEIGHTINGS, reads_labels

KEYS = jax.random.split(jax.random.key(0), 5)
PADDED = Unembedding(jax.random.normal(KEYS[2], (3, 2, 6)), jax.random.normal(KEYS[3], (6, 8)), jnp.arange(8.0))
HEADS = [
    ("a", Unembedding(jax.random.normal(KEYS[0], (3, 2, 4)), jax.random.normal(KEYS[1], (4, 5)))),
    ("b", core.select_classes(PADDED, slice(5))),  # a vocabulary that is padded to another size
]
DENSE = [(name, head.dense()) for name, head in HEADS]
LABEL = jnp.array([[0, 4], [-1, 2], [3, -1]])
STUDENT = jax.random.normal(KEYS[4], (3, 2, 5))


def make(quantity="probabilities", weighting="equal"):
    label = LABEL if reads_labels(WEIGHTINGS[weighting]) else None
    average = Average(quantity, WEIGHTINGS[weighting], (1.0, 3.0))
    return [average_logits(members, label, average) for members in (HEADS, DENSE)]


def test_by_hand():
    a, b = (np.asarray(jax.nn.softmax(x)) for _, x in DENSE)
    np.testing.assert_allclose(jax.nn.softmax(core.dense(make()[0])), (a + 3 * b) / 4, rtol=1e-5)
    expected = (np.asarray(DENSE[0][1]) + 3 * np.asarray(DENSE[1][1])) / 4
    np.testing.assert_allclose(core.dense(make("logits")[0]), expected, rtol=1e-5)


FORMS = [("logits", "agreement"), ("probabilities", "confidence")]
OTHER_FORMS = [(q, w) for q in ("logits", "probabilities") for w in WEIGHTINGS if (q, w) not in FORMS]


@pytest.mark.parametrize(
    ("quantity", "weighting"), [*FORMS, *(pytest.param(*form, marks=pytest.mark.slow) for form in OTHER_FORMS)]
)
def test_chunks_have_value_and_gradient_of_all_at_once(quantity, weighting):
    apart, dense = make(quantity, weighting)
    assert isinstance(apart, AveragedLogits)
    assert isinstance(dense, jax.Array)
    assert (core.prediction_shape(apart), core.num_classes(apart)) == ((3, 2), 5)
    np.testing.assert_allclose(core.dense(apart), dense, rtol=1e-6)

    def loss(student, teacher, chunk):
        return jnp.sum(chunked.compare(lambda s, t: divergence.kl(t, s), student, teacher, chunk=chunk))

    compute = jax.value_and_grad(loss)
    for left, right in zip(compute(STUDENT, apart, 2), compute(STUDENT, dense, 0), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_the_gradient_reaches_members_in_chunks():
    def loss(hidden, chunk, is_dense):
        head = HEADS[0][1].replace(hidden=hidden)
        members = [("a", head.dense() if is_dense else head), HEADS[1] if not is_dense else DENSE[1]]
        logits = average_logits(members, None, Average("probabilities", WEIGHTINGS["entropy"]))
        return jnp.sum(chunked.compare(lambda s, t: divergence.kl(t, s), logits, STUDENT, chunk=chunk))

    hidden = HEADS[0][1].hidden
    gradients = [jax.grad(loss)(hidden, chunk, is_dense) for chunk, is_dense in ((2, False), (0, True))]
    assert jnp.abs(gradients[1]).max() > 0.01
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-6)


def test_rows_and_words():
    apart, dense = make(weighting="confidence")
    moved = core.with_rows(apart, jax.tree.map(lambda x: x[::-1], core.rows(apart)))
    np.testing.assert_allclose(core.dense(moved), dense[::-1], rtol=1e-6)
    np.testing.assert_allclose(core.select_classes(apart, slice(2)), dense[..., :2], rtol=1e-6)
    assert "the average of 2 networks" in core.describe_logits(apart)


def test_mistakes():
    average = Average("logits", WEIGHTINGS["equal"])
    with pytest.raises(UserError, match=r"same classes, got \{'a': \(3, 2, 5\), 'b': \(3, 2, 8\)\}. Set keep_classes"):
        average_logits([HEADS[0], ("b", PADDED)], None, average)
    with pytest.raises(UserError, match=r"same classes, got \{'a': \(3, 2, 5\), 'b': \(3, 1, 5\)\}"):
        average_logits([DENSE[0], ("b", DENSE[1][1][:, :1])], None, average)
    with pytest.raises(UserError, match="logits of all classes, got .*likeliest 2 classes.*store='logits'"):
        average_logits([HEADS[0], ("b", topk.from_logits(DENSE[1][1], 2))], None, average)
