"""Batch normalisation beside Linen's, and the sums of its derivative."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.models.normalization import BatchNorm, normalize
from onednn_calls import count_equations

DRAW = np.random.default_rng(0)
X = jnp.asarray(DRAW.normal(3.0, 2.0, (4, 3, 3, 5)), jnp.float32)
WEIGHTS = jnp.asarray(DRAW.normal(size=X.shape), jnp.float32)
VARIABLES = {
    "params": {name: jnp.asarray(DRAW.normal(size=5), jnp.float32) for name in ("scale", "bias")},
    "batch_stats": {"mean": jnp.arange(5.0), "var": 1.0 + jnp.arange(5.0)},
}


def run(kind, train, dtype, params, x):
    """Returns the output and the new statistics of a module."""
    module = kind(use_running_average=not train, momentum=0.9, epsilon=1e-3, use_fast_variance=False, dtype=dtype)
    return module.apply(VARIABLES | {"params": params}, x, mutable=["batch_stats"])


def loss(kind, params, x):
    return jnp.sum(WEIGHTS * jnp.sin(run(kind, True, jnp.float32, params, x)[0]))


def assert_close(left, right, tolerance):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("train", [True, False])
def test_outputs_and_statistics_are_linens(train, dtype):
    both = [run(kind, train, dtype, VARIABLES["params"], X.astype(dtype)) for kind in (BatchNorm, nn.BatchNorm)]
    assert both[0][0].dtype == dtype
    assert_close(*both, 1e-6 if dtype == jnp.float32 else 1e-2)


def test_derivatives_of_first_and_second_order_are_linens():
    def derive(kind):
        gradient = jax.grad(functools.partial(loss, kind), (0, 1))
        tangents = jax.tree.map(jnp.cos, (VARIABLES["params"], X))
        return jax.jvp(gradient, (VARIABLES["params"], X), tangents)

    assert_close(*jax.jit(lambda: (derive(BatchNorm), derive(nn.BatchNorm)))(), 2e-5)


def test_statistics_have_their_derivatives():
    def derive(kind):
        return jax.jacrev(lambda x: run(kind, True, jnp.float32, VARIABLES["params"], x)[1])(X)

    assert_close(*jax.jit(lambda: (derive(BatchNorm), derive(nn.BatchNorm)))(), 1e-6)


@pytest.mark.parametrize("near", [0.0, 60.0])
def test_statistics_of_bfloat16_are_those_of_its_numbers(near):
    x = jnp.asarray(64.0 + DRAW.normal(size=(64, 16, 16, 5)), jnp.bfloat16)
    exact = np.asarray(x, np.float64).reshape(-1, 5)
    vector = jnp.ones(5)
    _, mean, var = jax.jit(lambda: normalize(x, (vector, vector), near * vector, 1e-5))()
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-6)
    # Without `near` they lose the digits of a mean of 64 deviations, which numbers of bfloat16 do not have either.
    np.testing.assert_allclose(var, exact.var(0), rtol=1e-5 if near else 1e-2)


def test_a_gradient_has_two_sums_over_the_batch_and_linens_four():
    def count(kind):
        return count_equations("reduce_sum", jax.grad(functools.partial(loss, kind), (0, 1)), VARIABLES["params"], X)

    forward = count_equations("reduce_sum", functools.partial(loss, BatchNorm), VARIABLES["params"], X)
    assert count(BatchNorm) - forward == 2
    assert count(nn.BatchNorm) - forward >= 4


def test_one_read_of_bfloat16_has_no_sum_of_another():
    """The compiler can make both sums where it makes the numbers, since neither needs the other."""
    program = jax.make_jaxpr(functools.partial(run, BatchNorm, True, jnp.bfloat16, VARIABLES["params"]))
    (call,) = [e for e in program(X.astype(jnp.bfloat16)).eqns if e.primitive.name == "custom_jvp_call"]
    equations = call.params["call_jaxpr"].eqns
    reached = set()
    for equation in equations:
        depends = any(not isinstance(v, jax.extend.core.Literal) and v in reached for v in equation.invars)
        assert not (depends and equation.primitive.name == "reduce_sum")
        if depends or equation.primitive.name == "reduce_sum":
            reached.update(equation.outvars)


POOL = functools.partial(nn.max_pool, window_shape=(2, 2), strides=(1, 1))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("train", [True, False])
def test_what_a_pooling_keeps_is_the_same_before_and_after(train, dtype):
    module = BatchNorm(use_running_average=not train, epsilon=1e-3)
    assert len(np.unique(np.sign(VARIABLES["params"]["scale"]))) == 2

    def apply(params, x, **pool):
        return module.apply(VARIABLES | {"params": params}, x.astype(dtype), mutable=["batch_stats"], **pool)

    def pooled_before(params, x):
        return apply(params, x, pool=POOL)

    def pooled_after(params, x):
        y, statistics = apply(params, x)
        return POOL(y), statistics

    both = [f(VARIABLES["params"], X) for f in (pooled_before, pooled_after)]
    assert both[0][0].dtype == jnp.float32
    jax.tree.map(np.testing.assert_array_equal, *both)
    weights = WEIGHTS[:, 1:, 1:]
    gradients = [
        jax.jit(jax.grad(lambda *at: jnp.sum(weights * jnp.sin(f(*at)[0])), (0, 1)))(VARIABLES["params"], X)
        for f in (pooled_before, pooled_after)
    ]
    assert_close(*gradients, 1e-5 if dtype == jnp.float32 else 3e-2)


def test_names_and_shapes_are_linens():
    shapes = [
        jax.eval_shape(kind(use_running_average=False).init, jax.random.key(0), X) for kind in (BatchNorm, nn.BatchNorm)
    ]
    assert shapes[0] == shapes[1]
