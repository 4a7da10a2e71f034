"""The few functions over the types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError


def test_mean_is_over_what_the_mask_keeps():
    values, mask = jnp.array([1.0, 2.0, 30.0]), jnp.array([1.0, 1.0, 0.0])
    assert core.mean(values, mask) == 1.5
    assert core.mean(values, mask, fraction=0.5) == 0.75
    assert core.mean(jnp.stack([values, values], -1), mask) == 1.5  # an example's mask counts for its predictions


def test_masked_values_may_be_anything():
    values, mask = jnp.array([1.0, jnp.nan, jnp.inf]), jnp.array([1.0, 0.0, 0.0])
    value, gradient = jax.value_and_grad(core.mean)(values, mask)
    assert value == 1
    np.testing.assert_array_equal(gradient, [1, 0, 0])


def test_mean_of_bfloat16_is_summed_in_float32():
    assert core.mean(jnp.ones(1000, jnp.bfloat16), jnp.ones(1000)) == 1
    assert core.mean(jnp.ones(4, jnp.bfloat16), jnp.ones(4)).dtype == jnp.float32


def test_a_tap_that_is_missing_is_answered_with_those_there_are():
    output = core.Output(jnp.zeros((1, 2)), {"stage1": jnp.zeros(1), "pooled": jnp.zeros(1)})
    assert output.tap("stage1").shape == (1,)
    with pytest.raises(
        UserError,
        match=r"tap must be an existing name, got 'stge1'. Did you mean 'stage1'\? There are \['pooled', 'stage1'\]",
    ):
        output.tap("stge1")


def test_split_and_merge():
    params, rest = core.split_params({"params": 1, "batch_stats": 2})
    assert (params, rest) == (1, {"batch_stats": 2})
    known = core.merge_variables({"student": params}, {"student": rest}, {"teacher": {"params": 3}})
    assert known == {"student": {"params": 1, "batch_stats": 2}, "teacher": {"params": 3}}


FORMS = {
    "array": jnp.arange(24.0).reshape(2, 3, 4),
    "unembedding": core.Unembedding(jnp.ones((2, 3, 5)), jnp.ones((5, 4)), jnp.arange(4.0)),
    "top_k": core.TopK(jnp.zeros((2, 3, 1)), jnp.zeros((2, 3, 1), int), jnp.zeros((2, 3)), 4),
}


@pytest.mark.parametrize("logits", FORMS.values(), ids=FORMS)
def test_every_form_of_logits_has_predictions_classes_and_rows(logits):
    """Of arrays and, as in plans, of shapes alone; the rows of other predictions keep the form."""
    for form in (logits, jax.eval_shape(lambda: logits)):
        assert core.prediction_shape(form) == (2, 3)
        assert core.num_classes(form) == 4
    assert all(x.shape[:2] == (2, 3) for x in jax.tree.leaves(core.rows(logits)))
    flat = core.with_rows(logits, jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), core.rows(logits)))
    assert type(flat) is type(logits)
    assert (core.prediction_shape(flat), core.num_classes(flat)) == ((6,), 4)
    same = core.row_function(flat)(core.rows(flat))
    for got, expected in zip(jax.tree.leaves(same), jax.tree.leaves(core.comparable(flat)), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_an_unembedding_is_dense_and_a_top_k_is_not():
    np.testing.assert_array_equal(core.dense(FORMS["unembedding"])[1, 2], [5, 6, 7, 8])
    np.testing.assert_array_equal(core.dense(FORMS["array"]), FORMS["array"])
    assert [core.lists_all_classes(form) for form in FORMS.values()] == [True, True, False]
    with pytest.raises(UserError, match="logits must cover every class, got the likeliest ones only"):
        core.dense(FORMS["top_k"])


def test_outputs_in_float32_leave_what_is_not_computed_yet():
    """Integers stay integers, and the states of an `Unembedding` stay in bfloat16."""
    narrow = {name: jax.tree.map(lambda x: x.astype(jnp.bfloat16), form) for name, form in FORMS.items()}
    narrow["top_k"] = narrow["top_k"].replace(ids=FORMS["top_k"].ids)
    kinds = {
        name: [x.dtype.name for x in jax.tree.leaves(core.Output(form, {"t": jnp.ones(2, jnp.bfloat16)}).in_float32())]
        for name, form in narrow.items()
    }
    assert kinds == {
        "array": ["float32", "float32"],
        "unembedding": ["bfloat16"] * 3 + ["float32"],
        "top_k": ["float32", "int32", "float32", "float32"],
    }
