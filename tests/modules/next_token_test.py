"""Labels of next tokens and the positions that count, worked by hand."""

import jax.numpy as jnp
import numpy as np

from jaxdistill.modules.next_token import align_next_tokens, next_token

TOKENS = jnp.array([[5, 6, 7, 8], [5, 6, 7, 0], [1, 2, 3, 4]])
MASK = jnp.array([1.0, 1.0, 0.0])
TOKEN_MASK = jnp.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])


def test_the_logits_at_a_position_predict_the_token_after_it():
    label, valid = next_token(TOKENS, MASK, TOKEN_MASK)
    np.testing.assert_array_equal(label, [[6, 7, 8, 0], [6, 7, 0, 0], [2, 3, 4, 0]])
    np.testing.assert_array_equal(valid, [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert valid.dtype == jnp.float32


def test_nothing_is_predicted_from_padding_on_the_left():
    """Of two texts of 4 tokens, 3 each are predicted; the first one of neither."""
    left = jnp.array([[0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    _, valid = next_token(jnp.arange(12).reshape(2, 6), jnp.ones(2), left)
    np.testing.assert_array_equal(valid, [[0, 0, 1, 1, 1, 0]] * 2)


def test_only_the_answer_counts_if_there_is_one():
    """Its first token is predicted one position before it, if that holds a token."""
    answer = jnp.array([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]])
    _, valid = next_token(TOKENS, MASK, TOKEN_MASK, answer)
    np.testing.assert_array_equal(valid, [[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    _, valid = next_token(TOKENS, MASK, jnp.array([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]]), answer)
    np.testing.assert_array_equal(valid, [[0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])


def test_an_aligned_batch_has_labels_of_next_tokens():
    batch = {"tokens": TOKENS, "mask": MASK, "token_mask": TOKEN_MASK, "label": -jnp.ones(3, int)}
    aligned = align_next_tokens(batch)
    label, valid = next_token(TOKENS, MASK, TOKEN_MASK)
    np.testing.assert_array_equal(aligned["label"], label)
    np.testing.assert_array_equal(aligned["valid"], valid)
    assert set(aligned) == {*batch, "valid"}


def test_a_teacher_that_reads_other_tokens_has_masks_of_its_own():
    teacher = {"teacher_tokens": jnp.zeros((3, 5), int), "teacher_token_mask": jnp.array([[1, 1, 1, 0, 0]] * 3)}
    aligned = align_next_tokens({"tokens": TOKENS, "mask": MASK} | teacher)
    np.testing.assert_array_equal(aligned["teacher_valid"], [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5])
    answer = teacher | {"teacher_answer_mask": jnp.array([[0, 1, 0, 0, 0]] * 3)}
    aligned = align_next_tokens({"tokens": TOKENS, "mask": MASK} | answer)
    np.testing.assert_array_equal(aligned["teacher_valid"], [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0] * 5])


def test_nothing_is_predicted_across_the_texts_of_a_row():
    document = jnp.array([[1, 1, 2, 2], [1, 2, 2, 0], [1, 1, 1, 1]])
    _, valid = next_token(TOKENS, MASK, TOKEN_MASK, document=document)
    np.testing.assert_array_equal(valid, [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
