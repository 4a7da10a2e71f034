"""What every method promises, for every file found in `methods/`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core, registry
from jaxdistill.core import Output

METHODS = registry.names("method")
ROWS, CLASSES = 6, 5
AT_TEACHER = {"kd"}
"""Methods whose paper implies that a student equal to its teacher has nothing to learn."""


def make(name):
    return registry.find("method", name)()


def outputs(seed, scale=1.0, dtype=jnp.float32):
    logits, taps = jax.random.split(jax.random.key(seed))
    image = jax.random.normal(taps, (ROWS, 4, 4, 3)).astype(dtype)
    pooled = image.astype(jnp.float32).mean((1, 2)).astype(dtype)
    return Output(
        (scale * jax.random.normal(logits, (ROWS, CLASSES))).astype(dtype), {"stage1": image, "pooled": pooled}
    )


def batch():
    label = jax.random.randint(jax.random.key(7), (ROWS,), 0, CLASSES)
    return {"label": label, "index": jnp.arange(ROWS), "view": jnp.zeros(ROWS, int), "mask": jnp.ones(ROWS)}


@functools.cache
def initialised(name):
    keys = {"params": jax.random.key(0), "method": jax.random.key(1)}
    shapes = jax.eval_shape(lambda: make(name).init(keys, outputs(0), outputs(1), batch()))
    variables = make(name).init(keys, outputs(0), outputs(1), batch())
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda x: x.shape, shapes)
    return variables


def values(name, student, teacher, data, variables=None):
    variables = initialised(name) if variables is None else variables
    rngs = {"method": jax.random.key(2)}
    found, _ = make(name).apply(variables, student, teacher, data, rngs=rngs, mutable=[*core.split(variables)[1]])
    return found


def loss(name, student, teacher, data):
    return core.mean(values(name, student, teacher, data), make(name).valid(data))


@pytest.mark.parametrize("name", METHODS)
def test_one_float32_value_per_prediction(name):
    found = values(name, outputs(0, dtype=jnp.bfloat16), outputs(1, dtype=jnp.bfloat16), batch())
    assert found.shape[0] == ROWS
    assert found.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("name", METHODS)
def test_finite_with_finite_gradients(name, scale, dtype):
    student, teacher = outputs(0, scale, dtype), outputs(1, scale, dtype)
    for other in (teacher, jax.tree.map(jnp.zeros_like, teacher), student, jax.tree.map(jnp.ones_like, teacher)):
        value, gradient = jax.value_and_grad(lambda s, t=other: loss(name, s, t, batch()))(student)
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((value, gradient)))


@pytest.mark.parametrize("name", METHODS)
def test_padding_changes_nothing(name):
    """Masked rows may hold anything: the value is that of the slice."""
    student, teacher, data = outputs(0), outputs(1), batch()
    cut = jax.tree.map(lambda x: x[:4], (student, teacher, data))
    masked = data | {"mask": data["mask"].at[4:].set(0)}
    np.testing.assert_allclose(loss(name, student, teacher, masked), loss(name, *cut), rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_order_of_the_batch_changes_nothing(name):
    order = jnp.array([3, 1, 5, 0, 4, 2])
    moved = jax.tree.map(lambda x: x[order], (outputs(0), outputs(1), batch()))
    np.testing.assert_allclose(loss(name, *moved), loss(name, outputs(0), outputs(1), batch()), rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_micro_batches_add_up_or_the_method_says_that_they_do_not(name):
    if make(name).needs_whole_batch:
        pytest.skip(f"{name} compares the rows of a batch with each other")
    data = batch()
    parts = [jax.tree.map(lambda x, i=i: x[i::2], (outputs(0), outputs(1), data)) for i in (0, 1)]
    total = sum(loss(name, *part) for part in parts) / 2
    np.testing.assert_allclose(total, loss(name, outputs(0), outputs(1), data), rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_empty_mask_gives_zero_with_zero_gradient(name):
    data = batch() | {"mask": jnp.zeros(ROWS)}
    value, gradient = jax.value_and_grad(lambda s: loss(name, s, outputs(1), data))(outputs(0))
    assert value == 0
    assert all((x == 0).all() for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", sorted(AT_TEACHER))
def test_nothing_to_learn_at_the_teacher(name):
    value, gradient = jax.value_and_grad(lambda s: loss(name, s, outputs(0), batch()))(outputs(0))
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient.logits, 0, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_jits_once(name, compiled):
    def reduced(student, teacher, data):
        return loss(name, student, teacher, data)

    initialised(name)
    function = jax.jit(reduced)
    for seed in (0, 1):
        function(outputs(seed), outputs(2), batch())
    assert compiled("reduced") == 1


@pytest.mark.parametrize("name", METHODS)
def test_docstring_cites_and_tells_the_formula(name):
    import importlib

    text = importlib.import_module(f"jaxdistill.methods.{name}").__doc__
    assert "https://" in text
    assert "\n    loss = " in text
