"""What every method promises, for every file found in `methods/`, on toy outputs of a task that it is for."""

import functools
import importlib
import inspect
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy_outputs
from jaxdistill import core, networks
from jaxdistill.config import registry
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.train.init import init_state
from jaxdistill.train.step import accumulated, make_loss
from toy_outputs import ROWS

METHODS = registry.names("method")


def make(name):
    return registry.find("method", name)()


def task_of(name):
    return toy_outputs.task_of(make(name))


AT_REST = [name for name in METHODS if make(name).zero_at_teacher]
TEXT = [name for name in METHODS if task_of(name) in ("texts", "next_tokens")]
FEW = {"at", "cirkd", "crd", "forward_kl", "kd", "reviewkd", "rkd", "tinybert"}
MOST_SLOW = [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in METHODS]
"""What compiles much for each method is a slow test, but for some of each kind."""


def said(name, seed, scale=1.0, dtype=jnp.float32, wide=False):
    return toy_outputs.output(task_of(name), seed, scale, dtype, wide)


def batch(name):
    return toy_outputs.batch(task_of(name))


@functools.cache
def initialised(name, wide=False):
    keys = {"params": jax.random.key(0), "method": jax.random.key(1)}
    arguments = said(name, 0), said(name, 1, wide=wide), batch(name)
    variables = jax.jit(make(name).init)(keys, *arguments)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        lambda x: x.shape, jax.eval_shape(lambda: make(name).init(keys, *arguments))
    )
    return variables


def apply(name, student, teacher, data, variables):
    mutable = [*core.split_params(variables)[1]]
    return make(name).apply(variables, student, teacher, data, rngs={"method": jax.random.key(2)}, mutable=mutable)


def loss(name, student, teacher, data, variables):
    return core.mean(apply(name, student, teacher, data, variables)[0], make(name).valid(data))


@functools.cache
def measured(name):
    """One compiled function for all checks: value, gradients by the student and by the method's own params."""
    variables = initialised(name)

    def both(student, teacher, data):
        def by(student, params):
            own = core.split_params(variables)[1] | ({"params": params} if params else {})
            return loss(name, student, teacher, data, own)

        params = core.split_params(variables)[0]
        return jax.value_and_grad(by, argnums=(0, 1))(student, params)

    return jax.jit(both)


def finite(tree):
    return all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", METHODS)
def test_one_float32_value_per_prediction(name):
    said_by_both = [said(name, seed, dtype=jnp.bfloat16) for seed in (0, 1)]
    found, _ = jax.eval_shape(functools.partial(apply, name), *said_by_both, batch(name), initialised(name))
    valid = make(name).valid(batch(name))
    assert found.shape[: valid.ndim] == valid.shape
    assert found.dtype == jnp.float32


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [
        (1e4, jnp.float32),
        *(
            pytest.param(scale, dtype, marks=pytest.mark.slow)
            for scale in (0.0, 1.0, 1e4)
            for dtype in (jnp.float32, jnp.bfloat16)
            if (scale, dtype) != (1e4, jnp.float32)
        ),
    ],
)
@pytest.mark.parametrize("name", METHODS)
def test_finite_with_finite_gradients(name, scale, dtype):
    """For huge gaps, and for features that are zero, constant, or the same on both sides."""
    student, teacher = said(name, 0, scale, dtype), said(name, 1, scale, dtype)
    zero, one = jax.tree.map(jnp.zeros_like, teacher), jax.tree.map(jnp.ones_like, teacher)
    pairs = [(student, teacher), (student, zero), (student, one), (student, student), (zero, teacher), (one, one)]
    for own, other in pairs:
        assert finite(measured(name)(own, other, batch(name)))


@pytest.mark.parametrize("name", METHODS)
def test_padding_changes_nothing(name):
    """Masked rows may hold anything: value and gradients are those of the slice."""
    student, teacher, data = said(name, 0), said(name, 1), batch(name)
    cut = jax.tree.map(lambda x: x[:4], (student, teacher, data))
    masked = toy_outputs.with_mask(data, data["mask"].at[4:].set(0))
    value, (grads, own) = measured(name)(student, teacher, masked)
    sliced, (expected, others) = measured(name)(*cut)
    np.testing.assert_allclose(value, sliced, rtol=2e-5, atol=1e-6)
    for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got[:4], want, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(got[4:], 0)
    for got, want in zip(jax.tree.leaves(own), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", TEXT)
def test_padded_tokens_change_nothing(name):
    """What networks say at padded tokens, or of attention to and from them, does not count."""
    student, teacher, data = said(name, 0), said(name, 1), batch(name)
    there = data["token_mask"] > 0

    def spoil(path, x):
        if x.ndim < 3:
            return x
        pairs = x.shape[-2:] == (there.shape[1],) * 2 and x.ndim == 4 and "scores" in str(path)
        keep = there[:, None, :, None] & there[:, None, None, :] if pairs else there.reshape(*there.shape, 1)
        return jnp.where(keep if pairs else keep.reshape(*there.shape, *[1] * (x.ndim - 2)), x, 3.0)

    spoiled = jax.tree_util.tree_map_with_path(spoil, (student, teacher))
    value, (grads, _) = measured(name)(student, teacher, data)
    other, (others, _) = measured(name)(*spoiled, data)
    np.testing.assert_allclose(value, other, rtol=1e-6)
    for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", METHODS)
def test_order_of_the_batch_changes_nothing(name):
    order = jnp.array([3, 1, 5, 0, 4, 2])
    moved = jax.tree.map(lambda x: x[order], (said(name, 0), said(name, 1), batch(name)))
    value, _ = measured(name)(said(name, 0), said(name, 1), batch(name))
    np.testing.assert_allclose(measured(name)(*moved)[0], value, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", MOST_SLOW)
def test_micro_batches_add_up_or_the_method_says_that_they_do_not(name):
    """In the step's own accumulation: loss, and gradients of the student and of the method's params."""
    (whole, loss), (added, parts) = (stepped(name, accumulate=parts) for parts in (1, 2))
    pairs = list(zip(jax.tree.leaves((whole, loss)), jax.tree.leaves((added, parts)), strict=True))
    if make(name).needs_whole_batch:
        differ = [jnp.max(jnp.abs(a - b)) > 1e-6 * jnp.max(jnp.abs(a)) for a, b in pairs]
        assert any(differ), f"{name} could be split, and says that it cannot"
    else:
        for a, b in pairs:
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=2e-5 * float(jnp.max(jnp.abs(a))) + 1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_empty_mask_gives_zero_with_zero_gradient(name):
    found = measured(name)(said(name, 0), said(name, 1), toy_outputs.with_mask(batch(name), jnp.zeros(ROWS)))
    assert all((x == 0).all() for x in jax.tree.leaves(found))


@pytest.mark.parametrize("name", METHODS)
def test_there_is_something_to_learn(name):
    """The value is not 0 away from the teacher, and moves the student."""
    value, (gradient, _) = measured(name)(said(name, 0), said(name, 1), batch(name))
    assert value != 0
    assert optax.tree.norm(gradient) > 0


@pytest.mark.parametrize("name", AT_REST)
def test_nothing_to_learn_at_the_teacher(name):
    value, (gradient, _) = measured(name)(said(name, 0), said(name, 0), batch(name))
    np.testing.assert_allclose(value, 0, atol=2e-6)
    for part in jax.tree.leaves(gradient):
        np.testing.assert_allclose(part, 0, atol=2e-6)


@pytest.mark.parametrize("name", MOST_SLOW)
def test_a_larger_teacher_teaches(name):
    variables = initialised(name, wide=True)
    found = jax.jit(functools.partial(loss, name))(said(name, 0), said(name, 1, wide=True), batch(name), variables)
    assert jnp.isfinite(found)


@pytest.mark.parametrize("name", METHODS)
def test_jits_once(name):
    """Other numbers of the same shapes are compiled no second time."""
    function = measured(name)
    function(said(name, 0), said(name, 2), batch(name))
    compiled = function._cache_size()
    function(said(name, 1), said(name, 3), batch(name))
    assert function._cache_size() == compiled


class Speaker(nn.Module):
    """A network that says of each row of the batch what its params are."""

    output: core.Output

    @nn.compact
    def __call__(self, x, train=False):
        parts, structure = jax.tree.flatten(self.output)
        params = [self.param(str(i), lambda key, part=part: part) for i, part in enumerate(parts)]
        return jax.tree.unflatten(structure, [param[x] for param in params])


@functools.cache
def stepped(name, accumulate):
    """The gradients of the step, and the loss, for a student and a teacher that could learn; some rows do not count."""
    cast = {"student": networks.Trained(Speaker(said(name, 0)), "row")}
    cast["teacher"] = networks.Trained(Speaker(said(name, 1)), "row")
    terms = {"term": Term(make(name))}
    data = toy_outputs.with_mask(batch(name), jnp.array([1.0, 0, 1, 0, 1, 1])) | {"row": jnp.arange(ROWS)}
    tx = optax.sgd(0.1)
    shapes = jax.eval_shape(lambda: data)
    state, frozen = jax.jit(lambda key: init_state(cast, terms, tx, shapes, key=key))(jax.random.key(0))
    gradients = accumulated(jax.grad(make_loss(cast, terms), has_aux=True), terms, accumulate)
    keys = core.fold_in(jax.random.key(1), [*cast, *terms])
    grads, (metrics, _) = jax.jit(gradients)(state, frozen, data, keys)
    return grads, metrics["loss"]


@pytest.mark.parametrize("name", MOST_SLOW)
def test_no_gradient_reaches_the_teacher(name):
    """In the step's own loss, with a teacher that could learn."""
    grads, _ = stepped(name, accumulate=1)
    assert all((x == 0).all() for x in jax.tree.leaves(grads["teacher"]))
    assert optax.tree.norm(grads["student"]) > 0


@pytest.mark.parametrize("name", METHODS)
def test_layers_weighed_by_a_learned_softmax_are_refused_in_words_or_learn(name):
    method = make(name)
    if "layer_mapping.sum_over_pairs(" not in inspect.getsource(type(method)):
        pytest.skip(f"{name} has no pairs of layers to weigh")
    family = "block*" if task_of(name) in ("texts", "next_tokens") else "stage*"
    method = method.clone(layers=f"learned:{family}")
    arguments = said(name, 0), said(name, 1), batch(name)
    try:
        method.check()
        keys = {"params": jax.random.key(0), "method": jax.random.key(1)}
        variables = jax.eval_shape(method.init, keys, *arguments)
    except UserError:
        return
    assert variables["params"]["layers"].ndim == 2


@pytest.mark.parametrize("name", METHODS)
def test_what_it_remembers_keeps_the_promises(name):
    """After a step that filled its memories: finite, and neither padding nor order changes anything."""
    if len(initialised(name)) == ("params" in initialised(name)):
        pytest.skip(f"{name} remembers nothing")
    student, teacher, data = said(name, 0), said(name, 1), batch(name)
    _, changed = jax.jit(functools.partial(apply, name))(said(name, 2), said(name, 3), data, initialised(name))
    variables = {**initialised(name), **changed}
    value = jax.jit(jax.value_and_grad(functools.partial(loss, name)))
    found, gradient = value(student, teacher, data, variables)
    assert finite((found, gradient))
    order = jnp.array([3, 1, 5, 0, 4, 2])
    moved = jax.tree.map(lambda x: x[order], (student, teacher, data))
    np.testing.assert_allclose(value(*moved, variables)[0], found, rtol=2e-5, atol=1e-6)
    masked = toy_outputs.with_mask(data, data["mask"].at[4:].set(0))
    sliced = value(*jax.tree.map(lambda x: x[:4], (student, teacher, data)), variables)
    np.testing.assert_allclose(value(student, teacher, masked, variables)[0], sliced[0], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_docstring_cites_and_tells_the_formula(name):
    text = importlib.import_module(f"jaxdistill.methods.{name}").__doc__
    assert "https://" in text
    assert "\n    loss = " in text
    assert "\nElsewhere: " in text


@pytest.mark.parametrize("name", METHODS)
def test_it_is_one_file_of_a_size_to_be_read(name):
    text = inspect.getsource(importlib.import_module(f"jaxdistill.methods.{name}"))
    assert 12 <= len(text.splitlines()) <= 150


@pytest.mark.parametrize("name", METHODS)
def test_it_says_whether_it_reads_labels(name):
    data = batch(name)
    data.pop("label", None)
    if make(name).needs_labels:
        with pytest.raises(KeyError, match="label"):
            jax.eval_shape(functools.partial(loss, name), said(name, 0), said(name, 1), data, initialised(name))
    else:
        assert finite(measured(name)(said(name, 0), said(name, 1), data))


def test_names_are_lower_case():
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in METHODS)
