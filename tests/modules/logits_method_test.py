"""Every method of logits on every task: images, texts, next tokens and pixels, dense or not computed yet."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.core import Output, TopK, Unembedding
from jaxdistill.errors import UserError
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.dist import DIST
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.methods.kd import KD, kd
from jaxdistill.modules.logits_method import LogitsMethod, has_label
from jaxdistill.modules.next_token import align_next_tokens

CLASSES, WIDTH = 5, 3
FEW = ("cross_entropy", "kd", "dist", "reverse_kl", "gkd")
NAMES = [name for name in registry.names("method") if issubclass(registry.find("method", name), LogitsMethod)]
FEW_FAST = [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in NAMES]


def images():
    """Two examples are padding, one has no label."""
    label = jnp.array([0, 3, -1, 2, 4, 1])
    return {"label": label, "mask": jnp.array([1.0, 1, 1, 0, 1, 0])}


def texts():
    """The same with the mask that a task adds."""
    return images() | {"valid": images()["mask"], "tokens": jnp.zeros((6, 4), int), "token_mask": jnp.ones((6, 4))}


def next_tokens():
    """Padding on the left, on the right, and an example that is padding."""
    tokens = jax.random.randint(jax.random.key(1), (4, 7), 0, CLASSES)
    token_mask = jnp.ones((4, 7)).at[1, 5:].set(0).at[2, :3].set(0)
    return align_next_tokens({"tokens": tokens, "token_mask": token_mask, "mask": jnp.array([1.0, 1, 1, 0])})


def pixels():
    """Void pixels, pixels without a label, and an example that is padding."""
    label = jax.random.randint(jax.random.key(2), (3, 2, 4), -1, CLASSES)
    mask = jnp.array([1.0, 0, 1])
    void = jax.random.bernoulli(jax.random.key(3), 0.3, (3, 2, 4))
    return {"label": label, "mask": mask, "valid": mask[:, None, None] * ~void}


TASKS = {function.__name__: function for function in (images, texts, next_tokens, pixels)}


def sides(shape):
    """Outputs of a student and a teacher whose logits are not computed yet."""
    keys = jax.random.split(jax.random.key(7), 4)
    hidden = (jax.random.normal(key, (*shape, WIDTH)) for key in keys[:2])
    kernels = (jax.random.normal(key, (WIDTH, CLASSES)) for key in keys[2:])
    return [Unembedding(states, kernel) for states, kernel in zip(hidden, kernels, strict=True)]


def loss(method, variables, student, teacher, batch):
    values = method.apply(variables, Output(student), Output(teacher), batch)
    return core.mean(values, method.valid(batch))


@functools.cache
def on_valid_rows(name, task):
    """The value of the valid predictions alone, in one list, and the student's gradient, `[n, classes]`."""
    method, batch = registry.find("method", name)(), TASKS[task]()
    logits = [core.dense(side) for side in sides(batch["label"].shape)]
    counts = np.asarray(batch.get("valid", batch["mask"])) > 0
    counts = counts & np.asarray(batch["label"] >= 0) if method.needs_labels else counts
    rows = [jnp.asarray(np.asarray(x)[counts]) for x in logits]
    flat = {"label": jnp.asarray(np.asarray(batch["label"])[counts]), "mask": jnp.ones(counts.sum())}
    variables = jax.jit(method.init)(jax.random.key(0), *map(Output, rows), flat)
    value, gradient = jax.jit(jax.value_and_grad(lambda s: loss(method, variables, s, rows[1], flat)))(rows[0])
    return variables, value, gradient, counts


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", FEW_FAST)
def test_the_value_is_that_of_the_valid_predictions_alone(name, task):
    """And no gradient reaches an invalid one."""
    method, batch = registry.find("method", name)(), TASKS[task]()
    student, teacher = (core.dense(side) for side in sides(batch["label"].shape))
    variables, expected, rows, counts = on_valid_rows(name, task)
    assert 1 < counts.sum() < counts.size
    value, gradient = jax.jit(jax.value_and_grad(lambda s: loss(method, variables, s, teacher, batch)))(student)
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(gradient[counts], rows, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(gradient[~counts], 0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", FEW_FAST)
def test_logits_may_be_computed_where_they_are_compared(name, task):
    """All at once, and in chunks if predictions are compared one by one."""
    member, batch = registry.find("method", name), TASKS[task]()
    variables, expected, _, _ = on_valid_rows(name, task)
    for chunk in (0,) if member.needs_whole_batch else (0, 4):
        value = loss(member(chunk=chunk), variables, *sides(batch["label"].shape), batch)
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-6)


def test_valid_is_the_mask_of_examples_for_a_batch_without_it():
    np.testing.assert_array_equal(KD().valid(images()), images()["mask"])
    np.testing.assert_array_equal(KD().valid(pixels()), pixels()["valid"])


def test_predictions_without_label_do_not_count_if_labels_are_needed():
    np.testing.assert_array_equal(CrossEntropy().valid(images()), [1, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(CrossEntropy().valid(pixels()), pixels()["valid"] * (pixels()["label"] >= 0))
    np.testing.assert_array_equal(has_label(jnp.array([[0.5, 0.5], [0.0, 0.0]])), [True, False])


def test_a_top_k_is_refused_by_methods_that_compare_all_classes():
    logits, listed = jnp.zeros((3, 4, 5)), TopK(jnp.zeros((3, 4, 2)), jnp.zeros((3, 4, 2), int), jnp.zeros((3, 4)), 5)
    for pair in ((Output(logits), Output(listed)), (Output(listed), Output(logits))):
        for method in (ForwardKL(), DIST()):
            with pytest.raises(UserError, match="got those of some only.* take method 'top_k' .* 'random_sampling'"):
                method.apply({}, *pair, {"mask": jnp.ones(3)})


def test_chunk_is_checked():
    with pytest.raises(UserError, match="chunk"):
        KD(chunk=-1).check()
    with pytest.raises(UserError, match="chunk must be 0, got 4: DIST compares predictions with each other"):
        DIST(chunk=4).check()


def test_shapes_are_checked_while_tests_run():
    """Logits of one class too many, and values of another shape than the predictions."""
    logits, wide = jnp.zeros((2, 3)), jnp.zeros((2, 4))
    with pytest.raises(TypeCheckError, match="parameter 'teacher'"):
        kd(wide, logits, 1.0)
    with pytest.raises(TypeCheckError, match="the return value"):
        KD().compare(lambda student, teacher: student.astype(int), Output(logits), Output(logits), batch={})
