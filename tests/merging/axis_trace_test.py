"""Axes that belong together, through operations that divide, join, take and cut them."""

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.merging import axis_trace
from jaxdistill.merging.axis_trace import FIXED, AxisTrace


def traced(function, *shapes):
    """Traces a function of params and a batch; returns the trace and the axes of params and result."""
    arrays = [jnp.zeros(shape) for shape in shapes]
    closed = jax.make_jaxpr(function)(*arrays)
    trace = AxisTrace()
    *params, x = (trace.fresh(shape) for shape in shapes)
    trace.fix(x[:1])
    is_computed = [False] * len(params) + [True]
    (result,) = trace.follow(closed.jaxpr, closed.consts, [*params, x], is_computed)
    return trace, params, x, result


def roots(trace, axes):
    return [None if node is None else trace.root(node) for node in axes]


@pytest.mark.parametrize(
    ("function", "axis"),
    [
        (lambda w, x: jnp.concatenate([x, x], 0) @ w, 0),
        (lambda w, x: x[1:] @ w, 0),
        (lambda w, x: jnp.tanh(x @ w).T, 1),
    ],
)
def test_an_axis_stays_whole(function, axis):
    trace, (w,), x, result = traced(function, (12, 5), (2, 12))
    assert trace.root(w[axis]) != FIXED
    assert trace.root(w[axis]) in roots(trace, [*x, *result])


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x: x[:, 2:] @ w[2:],
        lambda w, x: jnp.concatenate([x, x], 1) @ jnp.concatenate([w, w]),
        lambda w, x: jnp.cumsum(x, 1) @ w,
        lambda w, x: x.reshape(2, 3, 4).swapaxes(1, 2).reshape(2, 12) @ w + x.reshape(2, 4, 3).reshape(2, 12) @ w,
    ],
)
def test_an_axis_that_is_cut_or_mixed_is_fixed(function):
    trace, (w,), _, _ = traced(function, (12, 5), (2, 12))
    assert all(root == FIXED for _, root in trace.factors(w[0], 12))


def test_an_axis_that_is_divided_and_joined_again_has_its_factors():
    trace, (w,), x, _ = traced(lambda w, x: x.reshape(2, 3, 4).reshape(2, 12) @ w, (12, 5), (2, 12))
    assert trace.factors(w[0], 12) == trace.factors(x[1], 12)
    assert [size for size, _ in trace.factors(w[0], 12)] == [3, 4]


def test_joined_and_divided_axes_are_products_of_factors():
    trace, (w,), x, result = traced(lambda w, x: (x.reshape(2, 12) @ w).reshape(2, 3, 2), (12, 6), (2, 3, 4))
    assert [size for size, _ in trace.factors(w[0], 12)] == [3, 4]
    assert [root for _, root in trace.factors(w[0], 12)] == roots(trace, x[1:])
    assert [root for _, root in trace.factors(w[1], 6)] == roots(trace, result[1:])


def test_rows_of_a_table_keep_their_width_and_equal_parts_their_places():
    def function(table, w, x):
        rows = table[x.astype(int)]
        left, right = jnp.split(rows @ w, 2, -1)
        return left + right

    trace, (table, w), _, result = traced(function, (7, 4), (4, 6), (2, 3))
    assert trace.root(table[0]) == FIXED
    assert trace.root(table[1]) == trace.root(w[0])
    assert trace.marks[trace.root(table[1])] == {axis_trace.STREAM}
    (two, number), (three, part) = trace.factors(w[1], 6)
    assert (two, three, number, part) == (2, 3, FIXED, trace.root(result[-1]))


def test_marks_of_sums_and_products_of_computed_values():
    def attend(w, v, x):
        h = jnp.einsum("bd,dhk->bhk", x, w)
        scores = jnp.einsum("ahk,bhk->hab", h, h)
        return x + jnp.einsum("hab,bhk,hkd->ad", scores, h, v)

    trace, (w, v), _, _ = traced(attend, (12, 3, 4), (3, 4, 12), (2, 12))
    assert trace.marks[trace.root(w[1])] == {axis_trace.HEADS}
    assert trace.marks[trace.root(w[2])] == {axis_trace.HEAD_WIDTH}
    assert trace.marks[trace.root(v[2])] == {axis_trace.STREAM}
    assert trace.root(v[2]) == trace.root(w[0])


def test_flops_of_products():
    trace, _, _, _ = traced(lambda w, x: x @ w, (12, 5), (2, 12))
    assert [product.flops for product in trace.products] == [2 * 2 * 12 * 5]
