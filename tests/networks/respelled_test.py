"""Teachers with other tokens: what their predictions become at the student's tokens; `alm_test.py` has the losses."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.modules.respelled_logits import RespelledLogits
from jaxdistill.networks import Context
from jaxdistill.networks.respelled import Respelled

BATCH = align_next_tokens(
    {
        "tokens": jnp.array([[0, 1, 2]]),
        "span": jnp.array([[-1, 0, 1]]),
        "teacher_tokens": jnp.array([[3, 1, 0, 2]]),
        "teacher_span": jnp.array([[-1, 0, 1, 1]]),
        "mask": jnp.ones(1),
        "index": jnp.arange(1),
    }
)
P = np.array([[[0.1, 0.2, 0.3, 0.4], [0.4, 0.1, 0.3, 0.2], [0.25] * 4, [0.25] * 4]])
OUTPUT = {"big": Output(jnp.log(jnp.asarray(P)))}


def test_predictions_and_likelihoods_stand_at_the_students_tokens():
    output = Respelled("big", token_map=(2, -1, 0))({}, BATCH, OUTPUT, None)[0]
    assert isinstance(output.logits, RespelledLogits)
    top = core.comparable(output.logits)
    np.testing.assert_allclose(jnp.exp(top.values[0, 0]), [0.3, 0.1], rtol=1e-6)  # tokens 2 and 0 of the teacher
    assert top.ids[0, 0].tolist() == [0, 2]
    np.testing.assert_allclose(jnp.exp(top.log_rest[0, 0]), 0.6, rtol=1e-6)
    assert not core.lists_all_classes(output.logits)
    np.testing.assert_allclose(output.tap("span_log_prob"), [[0, np.log(0.4 * 0.25), 0]], rtol=1e-6)


def test_equal_vocabularies_keep_the_form():
    output = Respelled("big", token_map=(0, 1, 2, 3))({}, BATCH, OUTPUT, None)[0]
    np.testing.assert_array_equal(output.logits[0, 0], OUTPUT["big"].logits[0, 0])


def test_mistakes():
    with pytest.raises(UserError, match=r"of must be a network of teacher_tokens, .* got 'big' of \(1, 3\)"):
        Respelled("big", token_map=(0,))({}, BATCH, {"big": Output(jnp.zeros((1, 3, 4)))}, None)
    with pytest.raises(UserError, match="data.spans must be True for networks.net"):
        Respelled.build("net", {"of": "big", "chunk": 0}, Context(3, None))
    with pytest.raises(UserError, match="for tokenizers without a common token, got 2 tokens"):
        Respelled.build("net", {"of": "big", "chunk": 0}, Context(3, None, token_map=(-1, -1)))
