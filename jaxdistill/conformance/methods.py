"""Promises of methods, on toy outputs of a task that the method is for."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdistill import core, networks
from jaxdistill.conformance import toy_outputs
from jaxdistill.conformance.promise import NotApplicable, Promise, require, require_close, require_finite
from jaxdistill.conformance.toy_outputs import ROWS
from jaxdistill.core import Batch, Method, Output, Term, Variables
from jaxdistill.errors import UserError
from jaxdistill.train.init import init_state
from jaxdistill.train.step import accumulated, make_loss

ORDER = (3, 1, 5, 0, 4, 2)
KEPT = 4
"""Number of rows that count where some are masked."""


class OutputOfParams(nn.Module):
    """A network whose output for each row of the batch is its params."""

    output: Output

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        parts, structure = jax.tree.flatten(self.output)
        params = [self.param(str(i), lambda key, part=part: jnp.asarray(part)) for i, part in enumerate(parts)]
        return jax.tree.unflatten(structure, [param[x] for param in params])


@dataclasses.dataclass(frozen=True)
class ToyMethod:
    """A method, with the outputs and batches of a task that it is for.

    They are numpy arrays: each of the edits of a check would be a program that JAX compiles.

    Attributes:
        method: with its defaults.
        task: one of `toy_outputs.TASKS`.
    """

    method: Method
    task: str

    def output(self, seed: int, scale: float = 1.0, dtype: Any = jnp.float32, wide: bool = False) -> Output:
        """Returns the output of a network, another one for each seed."""
        return jax.device_get(toy_outputs.output(self.task, seed, scale=scale, dtype=dtype, wide=wide))

    @functools.cached_property
    def batch(self) -> Batch:
        """The batch of all outputs."""
        return jax.device_get(toy_outputs.batch(self.task))

    @property
    def masked(self) -> Batch:
        """The batch whose first rows alone count."""
        return toy_outputs.with_mask(self.batch, (np.arange(ROWS) < KEPT).astype(np.float32))

    @functools.cached_property
    def variables(self) -> Variables:
        """Fresh variables of the method."""
        return self.init(wide=False)

    def init(self, wide: bool) -> Variables:
        """Returns fresh variables for a teacher that is `wide` or not."""
        keys = {"params": jax.random.key(0), "method": jax.random.key(1)}
        arguments = self.output(0), self.output(1, wide=wide), self.batch
        variables = jax.jit(self.method.init)(keys, *arguments)
        shapes = jax.tree.map(lambda x: x.shape, jax.eval_shape(self.method.init, keys, *arguments))
        require(jax.tree.map(jnp.shape, variables) == shapes, "initialisation must be the same when it is traced")
        return variables

    def apply(
        self, student: Output, teacher: Output, batch: Batch, variables: Variables
    ) -> tuple[jax.Array, Variables]:
        """Returns the values and the changed variables."""
        mutable, rngs = [*core.split_params(variables)[1]], {"method": jax.random.key(2)}
        return self.method.apply(variables, student, teacher, batch, rngs=rngs, mutable=mutable)

    def loss(self, student: Output, teacher: Output, batch: Batch, variables: Variables) -> jax.Array:
        """Returns the mean value of the predictions that count."""
        return core.mean(self.apply(student, teacher, batch, variables)[0], self.method.valid(batch))

    @functools.cached_property
    def measure(self) -> Callable[[Output, Output, Batch], tuple[jax.Array, tuple[Output, Any]]]:
        """One compiled function for most promises: value, gradients by the student and by the method's params."""
        variables = self.variables

        def value_and_gradients(student: Output, teacher: Output, batch: Batch) -> tuple[jax.Array, tuple[Output, Any]]:
            def loss(student: Output, params: Any) -> jax.Array:
                merged = core.split_params(variables)[1] | ({"params": params} if params else {})
                return self.loss(student, teacher, batch, merged)

            params = core.split_params(variables)[0]
            return jax.value_and_grad(loss, argnums=(0, 1))(student, params)

        return jax.jit(value_and_gradients)

    def measured(self, student: Output, teacher: Output, batch: Batch) -> tuple[np.ndarray, tuple[Output, Any]]:
        """Returns the value and gradients of `measure` as numpy arrays."""
        return jax.device_get(self.measure(student, teacher, batch))

    @functools.cached_property
    def whole_step(self) -> tuple[Any, jax.Array]:
        """Gradients and loss of a step."""
        return self.step(1)

    def step(self, parts: int) -> tuple[Any, jax.Array]:
        """Returns the gradients of the step and the loss, for a student and a teacher with params; some rows masked.

        Args:
            parts: number of micro-batches.
        """
        sources = {"student": networks.Trained(OutputOfParams(self.output(0)), "row")}
        sources["teacher"] = networks.Trained(OutputOfParams(self.output(1)), "row")
        terms = {"term": Term(self.method)}
        mask = np.array([1, 0, 1, 0, 1, 1], np.float32)
        batch = toy_outputs.with_mask(self.batch, mask) | {"row": np.arange(ROWS, dtype=np.int32)}
        tx = optax.sgd(0.1)
        shapes = jax.eval_shape(lambda: batch)
        state, frozen = jax.jit(lambda key: init_state(sources, terms, tx, shapes, key=key))(jax.random.key(0))
        gradients = accumulated(jax.grad(make_loss(sources, terms), has_aux=True), terms, parts)
        keys = core.fold_in(jax.random.key(1), [*sources, *terms])
        grads, (metrics, _) = jax.jit(gradients)(state, frozen, batch, keys)
        return jax.device_get((grads, metrics["loss"]))


def make_subject(member: Callable[..., Method], **fields: Any) -> ToyMethod:
    """Makes a method with its defaults, and finds a toy task whose outputs it can compare."""
    method = member(**fields)
    method.check()
    return ToyMethod(method, toy_outputs.task_of(method))


def one_value_per_prediction(toy: ToyMethod) -> None:
    sides = [toy.output(seed, dtype=jnp.bfloat16) for seed in (0, 1)]
    values, _ = jax.eval_shape(toy.apply, *sides, toy.batch, toy.variables)
    valid = jax.eval_shape(toy.method.valid, toy.batch)
    require(
        values.shape[: valid.ndim] == valid.shape,
        f"values must have one number per prediction, {list(valid.shape)}, got {list(values.shape)}",
    )
    require(values.dtype == jnp.float32, f"values must be float32, got {values.dtype}")


def finite(toy: ToyMethod, scale: float, dtype: Any) -> None:
    """For large differences, and for features that are zero, constant, or equal on both sides."""
    student, teacher = toy.output(0, scale, dtype), toy.output(1, scale, dtype)
    zeros, ones = jax.tree.map(np.zeros_like, teacher), jax.tree.map(np.ones_like, teacher)
    pairs = [(student, teacher), (student, zeros), (student, ones), (student, student), (zeros, teacher), (ones, ones)]
    for left, right in pairs:
        require_finite(toy.measured(left, right, toy.batch), "value and gradients")


def masked_rows_change_nothing(toy: ToyMethod) -> None:
    """The value and gradients of a batch with masked rows are those of the batch without them."""
    student, teacher = toy.output(0), toy.output(1)
    cut = jax.tree.map(lambda x: x[:KEPT], (student, teacher, toy.batch))
    value, (gradient, params) = toy.measured(student, teacher, toy.masked)
    expected, (expected_gradient, expected_params) = toy.measured(*cut)
    require_close(value, expected, "value with masked rows", rtol=2e-5, atol=1e-6)
    first = jax.tree.map(lambda x: x[:KEPT], gradient)
    require_close(first, expected_gradient, "gradient with masked rows", rtol=1e-3, atol=1e-5)
    for part in jax.tree.leaves(gradient):
        np.testing.assert_array_equal(part[KEPT:], 0, err_msg="gradient of masked rows")
    require_close(params, expected_params, "gradient of the method's params", rtol=1e-3, atol=1e-5)


def contents_of_masked_rows_change_nothing(toy: ToyMethod) -> None:
    sides = [toy.output(seed) for seed in (0, 1)]
    changed = [jax.tree.map(lambda x, y: np.concatenate([x[:KEPT], y[KEPT:]]), side, toy.output(2)) for side in sides]
    value, (gradient, params) = toy.measured(*sides, toy.masked)
    result, (changed_gradient, changed_params) = toy.measured(*changed, toy.masked)
    require_close(result, value, "value with other masked rows", rtol=2e-5, atol=1e-6)
    require_close(changed_gradient, gradient, "gradient with other masked rows", rtol=1e-3, atol=1e-5)
    require_close(changed_params, params, "gradient of the method's params", rtol=1e-3, atol=1e-5)


def padded_tokens_change_nothing(toy: ToyMethod) -> None:
    """Outputs at padded tokens, and attention to and from them, do not count."""
    if toy.task not in ("texts", "next_tokens"):
        raise NotApplicable("the method is not for texts")
    student, teacher, batch = toy.output(0), toy.output(1), toy.batch
    is_token = batch["token_mask"] > 0

    def spoil(path: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
        if x.ndim < 3:
            return x
        if x.shape[-2:] == (is_token.shape[1],) * 2 and x.ndim == 4 and "scores" in str(path):
            return np.where(is_token[:, None, :, None] & is_token[:, None, None, :], x, np.float32(3))
        return np.where(is_token.reshape(*is_token.shape, *[1] * (x.ndim - 2)), x, np.float32(3))

    spoiled = jax.tree_util.tree_map_with_path(spoil, (student, teacher))
    value, (gradient, _) = toy.measured(student, teacher, batch)
    spoiled_value, (spoiled_gradient, _) = toy.measured(*spoiled, batch)
    np.testing.assert_allclose(value, spoiled_value, rtol=1e-6, err_msg="value with other padding")
    require_close(gradient, spoiled_gradient, "gradient with other padding", rtol=1e-5, atol=1e-7)


def order_changes_nothing(toy: ToyMethod) -> None:
    arguments = toy.output(0), toy.output(1), toy.batch
    moved = jax.tree.map(lambda x: x[np.array(ORDER)], arguments)
    value, _ = toy.measured(*arguments)
    require_close(toy.measured(*moved)[0], value, "value in another order", rtol=2e-5, atol=1e-6)


def micro_batches_add_up(toy: ToyMethod) -> None:
    """In the accumulation of the step: loss, and gradients of the student and of the method's params."""
    pairs = list(zip(jax.tree.leaves(toy.whole_step), jax.tree.leaves(toy.step(2)), strict=True))
    if toy.method.needs_whole_batch:
        differ = [np.max(np.abs(a - b)) > 1e-6 * np.max(np.abs(a)) for a, b in pairs]
        require(any(differ), "needs_whole_batch must be False, since micro-batches add up")
    else:
        for a, b in pairs:
            atol = 2e-5 * float(np.max(np.abs(a))) + 1e-9
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=atol, err_msg="needs_whole_batch must be True")


def empty_mask_gives_zero(toy: ToyMethod) -> None:
    empty = toy_outputs.with_mask(toy.batch, np.zeros(ROWS, np.float32))
    results = toy.measured(toy.output(0), toy.output(1), empty)
    require(all((x == 0).all() for x in jax.tree.leaves(results)), "value and gradients must be 0")


def value_moves_the_student(toy: ToyMethod) -> None:
    value, (gradient, _) = toy.measured(toy.output(0), toy.output(1), toy.batch)
    require(value != 0, "the value must not be 0 for a student that differs from its teacher")
    require(_norm(gradient) > 0, "the gradient must not be 0 for a student that differs from its teacher")


def zero_at_the_teacher(toy: ToyMethod) -> None:
    if not toy.method.zero_at_teacher:
        raise NotApplicable("zero_at_teacher is False")
    value, (gradient, _) = toy.measured(toy.output(0), toy.output(0), toy.batch)
    require_close(value, 0.0, "value for a student that equals its teacher", rtol=1e-7, atol=2e-6)
    for part in jax.tree.leaves(gradient):
        np.testing.assert_allclose(part, 0, atol=2e-6, err_msg="gradient for a student that equals its teacher")


def wider_teacher(toy: ToyMethod) -> None:
    value = jax.jit(toy.loss)(toy.output(0), toy.output(1, wide=True), toy.batch, toy.init(wide=True))
    require_finite(value, "the value for a wider teacher")


def compiles_once(toy: ToyMethod) -> None:
    measure: Any = toy.measure
    measure(toy.output(0), toy.output(2), toy.batch)
    compiled = measure._cache_size()
    measure(toy.output(1), toy.output(3), toy.batch)
    require(measure._cache_size() == compiled, "numbers of the same shapes must not compile a second time")


def no_gradient_to_the_teacher(toy: ToyMethod) -> None:
    """In the loss of the step, with a teacher that has params."""
    grads, _ = toy.whole_step
    require(all((x == 0).all() for x in jax.tree.leaves(grads["teacher"])), "the teacher's gradient must be 0")
    require(_norm(grads["student"]) > 0, "the student's gradient must not be 0")


def learned_layers(toy: ToyMethod) -> None:
    """Pairs of layers weighted by a learned softmax are refused with a message, or have params."""
    if "layer_mapping.sum_over_pairs(" not in inspect.getsource(type(toy.method)):
        raise NotApplicable("the method has no pairs of layers to weight")
    family = "block*" if toy.task in ("texts", "next_tokens") else "stage*"
    method: Any = toy.method.clone(layers=f"learned:{family}")
    arguments = toy.output(0), toy.output(1), toy.batch
    try:
        method.check()
        keys = {"params": jax.random.key(0), "method": jax.random.key(1)}
        variables = jax.eval_shape(method.init, keys, *arguments)
    except UserError:
        return
    require(variables["params"]["layers"].ndim == 2, "params 'layers' must be a matrix of weights")


def memories_keep_the_promises(toy: ToyMethod) -> None:
    """After a step that filled the memories: finite, and neither padding nor order changes anything."""
    if len(toy.variables) == ("params" in toy.variables):
        raise NotApplicable("the method has no memories")
    student, teacher, batch = toy.output(0), toy.output(1), toy.batch
    _, changed = jax.jit(toy.apply)(toy.output(2), toy.output(3), batch, toy.variables)
    variables = {**toy.variables, **changed}
    value = jax.jit(jax.value_and_grad(toy.loss))
    result, gradient = value(student, teacher, batch, variables)
    require_finite((result, gradient), "value and gradients with memories")
    moved = jax.tree.map(lambda x: x[np.array(ORDER)], (student, teacher, batch))
    require_close(value(*moved, variables)[0], result, "value in another order", rtol=2e-5, atol=1e-6)
    cut = value(*jax.tree.map(lambda x: x[:KEPT], (student, teacher, batch)), variables)
    with_padding = value(student, teacher, toy.masked, variables)[0]
    require_close(with_padding, cut[0], "value with masked rows", rtol=2e-5, atol=1e-6)


def labels_as_declared(toy: ToyMethod) -> None:
    unlabelled = {name: value for name, value in toy.batch.items() if name != "label"}
    arguments = toy.output(0), toy.output(1), unlabelled
    try:
        jax.eval_shape(toy.loss, *arguments, toy.variables)
    except KeyError as error:
        if "label" not in str(error):
            raise
        require(toy.method.needs_labels, "needs_labels must be True, since the method reads labels")
        return
    require(not toy.method.needs_labels, "needs_labels must be False, since the method reads no label")


def _norm(tree: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree))))


def _finite(scale: float, dtype: Any, name: str) -> Promise[ToyMethod]:
    return Promise(f"values and gradients are finite for {name}", functools.partial(finite, scale=scale, dtype=dtype))


FINITE = (
    _finite(1e4, jnp.float32, "extreme logits"),
    _finite(0.0, jnp.float32, "logits of 0"),
    _finite(0.0, jnp.bfloat16, "bfloat16 logits of 0"),
    _finite(1.0, jnp.float32, "usual logits"),
    _finite(1.0, jnp.bfloat16, "usual bfloat16 logits"),
    _finite(1e4, jnp.bfloat16, "extreme bfloat16 logits"),
)

PROMISES = (
    Promise("there is one float32 value per prediction", one_value_per_prediction),
    *FINITE,
    Promise("masked rows change nothing", masked_rows_change_nothing),
    Promise("contents of masked rows change nothing", contents_of_masked_rows_change_nothing),
    Promise("padded tokens change nothing", padded_tokens_change_nothing),
    Promise("the order of the batch changes nothing", order_changes_nothing),
    Promise("micro-batches add up unless needs_whole_batch", micro_batches_add_up),
    Promise("an empty mask gives 0 with zero gradient", empty_mask_gives_zero),
    Promise("the value is not 0 and moves the student", value_moves_the_student),
    Promise("value and gradient are 0 at the teacher if zero_at_teacher", zero_at_the_teacher),
    Promise("a wider teacher fits", wider_teacher),
    Promise("other numbers compile nothing again", compiles_once),
    Promise("no gradient reaches the teacher", no_gradient_to_the_teacher),
    Promise("layers weighted by a learned softmax have params or are refused", learned_layers),
    Promise("the promises hold with filled memories", memories_keep_the_promises),
    Promise("labels are read if needs_labels, and only then", labels_as_declared),
)
