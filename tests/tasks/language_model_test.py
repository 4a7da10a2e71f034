"""Labels and validity of tokens, aligned with the logits that predict them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.data import texts
from jaxdistill.tasks.language_model import LanguageModel
from jaxdistill.tasks.masked_language_model import MaskedLanguageModel

DATASET = texts.make_windows("text", {"train": b"a text"}, 3)
TOKENS = jnp.array([[5, 6, 7, 8], [1, 2, 3, 4]])


def align(task=LanguageModel, **fields):
    return task(DATASET).align({"tokens": TOKENS, "mask": jnp.ones(2), **fields})


def test_the_label_is_the_next_token():
    batch = align()
    np.testing.assert_array_equal(batch["label"], [[6, 7, 8, 0], [2, 3, 4, 0]])
    np.testing.assert_array_equal(batch["valid"], [[1, 1, 1, 0], [1, 1, 1, 0]])
    assert batch["valid"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({"mask": [1, 0]}, [[1, 1, 1, 0], [0, 0, 0, 0]]),
        ({"token_mask": [[1, 1, 0, 0], [1, 1, 1, 1]]}, [[1, 0, 0, 0], [1, 1, 1, 0]]),
        ({"token_mask": [[0, 0, 1, 1], [1, 1, 1, 1]]}, [[0, 0, 1, 0], [1, 1, 1, 0]]),  # padding on the left
        ({"answer_mask": [[0, 0, 1, 1], [0, 0, 0, 0]]}, [[0, 1, 1, 0], [0, 0, 0, 0]]),
        ({"token_mask": [[1, 1, 1, 0]] * 2, "answer_mask": [[0, 0, 1, 1]] * 2}, [[0, 1, 0, 0]] * 2),
        ({"segment": [[1, 1, 2, 2], [3, 3, 3, 3]]}, [[1, 0, 1, 0], [1, 1, 1, 0]]),  # two documents
    ],
    ids=str,
)
def test_positions_that_count(fields, valid):
    np.testing.assert_array_equal(align(**{name: jnp.array(x) for name, x in fields.items()})["valid"], valid)


def test_the_teacher_may_have_tokens_of_its_own():
    assert "teacher_valid" not in align()
    mask = jnp.array([[1, 1, 1], [1, 1, 0]])
    batch = align(teacher_tokens=jnp.array([[9, 9, 9], [9, 9, 0]]), teacher_token_mask=mask)
    np.testing.assert_array_equal(batch["teacher_valid"], [[1, 1, 0], [1, 0, 0]])


def test_hidden_tokens_are_the_labels_of_a_masked_language_model():
    targets = jnp.array([[-1, 3, -1, 4], [-1, -1, 9, -1]])
    batch = align(MaskedLanguageModel, targets=targets, token_mask=jnp.array([[1, 1, 1, 0], [1, 1, 1, 1]]))
    np.testing.assert_array_equal(batch["label"], targets)
    np.testing.assert_array_equal(batch["valid"], [[0, 1, 0, 0], [0, 0, 1, 0]])
    unlabelled = align(MaskedLanguageModel)
    assert (unlabelled["label"] == -1).all()
    assert (unlabelled["valid"] == 1).all()
