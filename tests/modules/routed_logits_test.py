"""Logits of several networks, chosen by example, in every form that networks have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.core import TopK, Unembedding
from jaxdistill.errors import UserError
from jaxdistill.losses import chunked, topk
from jaxdistill.modules.routed_logits import RoutedLogits, choose_logits

ROUTE = jnp.array([1, 0, 1])
KEYS = jax.random.split(jax.random.key(0), 4)
HEADS = {
    "a": Unembedding(jax.random.normal(KEYS[0], (3, 2, 4)), jax.random.normal(KEYS[1], (4, 5))),
    "b": Unembedding(jax.random.normal(KEYS[2], (3, 2, 6)), jax.random.normal(KEYS[3], (6, 5)), jnp.arange(5.0)),
}
DENSE = {name: head.dense() for name, head in HEADS.items()}
EXPECTED = np.stack([np.asarray(DENSE[name])[row] for row, name in enumerate("bab")])


def test_heads_of_two_widths_are_computed_in_chunks():
    logits = choose_logits(HEADS, ROUTE)
    assert isinstance(logits, RoutedLogits)
    assert (core.prediction_shape(logits), core.num_classes(logits)) == ((3, 2), 5)
    np.testing.assert_array_equal(core.dense(logits), EXPECTED)
    chunks = chunked.compare(lambda student, teacher: teacher[:, 1], jnp.zeros((3, 2, 5)), logits, chunk=2)
    np.testing.assert_allclose(chunks, EXPECTED[..., 1], rtol=1e-6)
    np.testing.assert_array_equal(core.dense(core.select_classes(logits, slice(2))), EXPECTED[..., :2])
    moved = core.with_rows(logits, jax.tree.map(lambda x: x[::-1], core.rows(logits)))
    np.testing.assert_array_equal(core.dense(moved), EXPECTED[::-1])
    assert "of one of 2 networks" in core.describe_logits(logits)


def test_heads_of_one_width_are_not_one_head():
    heads = {"a": HEADS["a"], "c": Unembedding(HEADS["a"].hidden, 2 * HEADS["a"].kernel)}
    expected = np.stack([(2 if row else 1) * DENSE["a"][number] for number, row in enumerate(ROUTE)])
    np.testing.assert_allclose(core.dense(choose_logits(heads, ROUTE)), expected, rtol=1e-6)


def test_forms_that_are_rows_alone_keep_their_form():
    np.testing.assert_array_equal(choose_logits(DENSE, ROUTE), EXPECTED)
    listed = choose_logits({name: topk.from_logits(x, 2) for name, x in DENSE.items()}, ROUTE)
    assert isinstance(listed, TopK)
    expected = topk.from_logits(jnp.asarray(EXPECTED), 2)
    for left, right in zip(jax.tree.leaves(listed), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(left, right)


def test_mistakes():
    with pytest.raises(UserError, match=r"the same classes, got \{'a': 5, 'b': 4\}. Set keep_classes"):
        choose_logits({"a": DENSE["a"], "b": DENSE["b"][..., :4]}, ROUTE)
    with pytest.raises(UserError, match=r"the same predictions, got \{'a': \(3, 2\), 'b': \(3, 1\)\}"):
        choose_logits({"a": DENSE["a"], "b": DENSE["b"][:, :1]}, ROUTE)
    with pytest.raises(UserError, match="logits of one form, got .*likeliest 2 classes"):
        choose_logits({"a": topk.from_logits(DENSE["a"], 2), "b": DENSE["b"]}, ROUTE)
