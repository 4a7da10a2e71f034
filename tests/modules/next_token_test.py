"""What logits predict, worked by hand, and what every method over next tokens inherits."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output, TopK
from jaxdistill.errors import UserError
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.modules.next_token import counted, next_token

BATCH = {
    "tokens": jnp.array([[5, 6, 7, 8], [5, 6, 7, 0], [1, 2, 3, 4]]),
    "mask": jnp.array([1.0, 1.0, 0.0]),
    "token_mask": jnp.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]),
}


def test_the_logits_at_a_position_predict_the_token_after_it():
    label, valid = next_token(BATCH)
    np.testing.assert_array_equal(label, [[6, 7, 8, 0], [6, 7, 0, 0], [2, 3, 4, 0]])
    np.testing.assert_array_equal(valid, [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert valid.dtype == jnp.float32


def test_only_the_answer_counts_where_there_is_one():
    """Its first token is predicted one position before it."""
    answer = jnp.array([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]])
    _, valid = next_token(BATCH | {"answer_mask": answer})
    np.testing.assert_array_equal(valid, [[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])


def test_another_reader_of_the_text_has_masks_of_its_own():
    batch = {"mask": BATCH["mask"], "teacher_answer_mask": jnp.array([[0, 1, 1, 0, 0]] * 3)}
    np.testing.assert_array_equal(counted(batch, "teacher_"), [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5])
    longer = batch | {"teacher_tokens": jnp.zeros((3, 5), int), "teacher_token_mask": jnp.array([[1, 1, 0, 0, 0]] * 3)}
    np.testing.assert_array_equal(counted(longer, "teacher_"), [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0] * 5])


def test_predictions_of_another_kind_have_the_mask_of_their_examples():
    np.testing.assert_array_equal(ForwardKL().valid({"mask": BATCH["mask"]}), BATCH["mask"])


def test_a_top_k_is_refused_by_methods_that_compare_all():
    logits, said = jnp.zeros((3, 4, 5)), TopK(jnp.zeros((3, 4, 2)), jnp.zeros((3, 4, 2), int), jnp.zeros((3, 4)), 5)
    for pair in ((Output(logits), Output(said)), (Output(said), Output(logits))):
        with pytest.raises(UserError, match="take method 'top_k'"):
            ForwardKL().apply({}, *pair, BATCH)


def test_a_chunk_that_makes_no_sense():
    with pytest.raises(UserError, match="chunk must be at least 0 and finite, got -1"):
        ForwardKL(chunk=-1).check()
