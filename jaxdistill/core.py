"""Core types, and the functions over them.

    networks:  name -> source of Output            terms:  name -> (student, teacher, method, weight)

A network returns an `Output`, a method compares two of them, with a value per prediction, which only `mean` reduces.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxdistill import products
from jaxdistill.errors import UserError, unknown

Batch = Mapping[str, jax.Array]
Variables = Mapping[str, Any]
Schedule = Callable[[Any], Any]
Scalar = float | jax.Array
"""A number, or the scalar array that a schedule sets it to."""

UNLABELLED = -1
"""The label of an example whose label the student may not see."""

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness: ITU-R Recommendation BT.601, section 2.5.1."""

CACHED = "cached/"
"""Prefix of the arrays in a batch that come from a cache: `cached/NETWORK/ARRAY`."""


class LogitsForm:
    """Base class of logits that are not a dense array: they are computed later, or only some classes are listed.

    A new form is a pytree dataclass that derives from this and defines `prediction_shape` and `num_classes`; all else
    goes through the functions below (`prediction_shape`, `num_classes`, `dense`, ...), which also take arrays.

    Attributes:
        prediction_shape: `[*n]`.
        num_classes: number of classes, listed or not.
        lists_all_classes: whether the form has a logit for every class; a class attribute.
    """

    prediction_shape: tuple[int, ...]
    num_classes: int
    lists_all_classes = True

    @property
    def rows(self) -> Any:
        """The arrays with one row per prediction, a tree of `[*n, ...]`."""
        return self

    def with_rows(self, rows: Any) -> "Logits":
        """Returns the same form with other predictions, a tree of `[*m, ...]`."""
        return rows

    def dense(self) -> jax.Array:
        """Returns `[*n, classes]`, or raises `UserError` if only some classes are listed."""
        raise NotImplementedError

    def comparable(self) -> "jax.Array | TopK":
        """Returns the form that losses compare."""
        return self.dense()

    def row_function(self) -> jax.tree_util.Partial:
        """Returns the function from some of `rows` to the comparable logits of these rows, a tree of its arrays."""
        return jax.tree_util.Partial(lambda rows: rows)

    def in_float32(self) -> "Logits":
        """Returns the form with its logits in at least float32; unchanged if they are not computed yet."""
        return self

    def select_classes(self, classes: slice | jax.Array) -> "Logits":
        """Returns the logits of some classes, in that order."""
        return self.dense()[..., classes]

    def describe(self) -> str:
        """Describes the shapes of one example, for `--plan`."""
        return str((*self.prediction_shape[1:], self.num_classes))


@struct.dataclass
class Unembedding(LogitsForm):
    """Logits that are not computed yet, `hidden @ kernel + bias`: one chunk of them fits in memory if all do not.

    Attributes:
        hidden: `[*n, width]`.
        kernel: `[width, classes]`.
        bias: `[classes]`, or `None`.
    """

    hidden: jax.Array
    kernel: jax.Array
    bias: jax.Array | None = None

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return self.hidden.shape[:-1]

    @property
    def num_classes(self) -> int:
        return self.kernel.shape[-1]

    @property
    def rows(self) -> jax.Array:
        return self.hidden

    def with_rows(self, rows: jax.Array) -> "Unembedding":
        return dataclasses.replace(self, hidden=rows)

    def dense(self) -> jax.Array:
        """Returns the logits, `[*n, classes]`, accumulated in at least float32."""
        logits = products.multiply(self.hidden, self.kernel, jnp.result_type(self.hidden, self.kernel, jnp.float32))
        return logits if self.bias is None else logits + self.bias.reshape(*[1] * (logits.ndim - 1), -1)

    def row_function(self) -> jax.tree_util.Partial:
        # The kernel stays in float32 outside the chunk, where the gradients of all chunks are summed.
        arrays, dtype = jax.tree.map(precise, (self.kernel, self.bias)), self.kernel.dtype
        return jax.tree_util.Partial(lambda k, b, rows: Unembedding(rows, k.astype(dtype), b).dense(), *arrays)

    def select_classes(self, classes: slice | jax.Array) -> "Unembedding":
        bias = None if self.bias is None else self.bias[classes]
        return dataclasses.replace(self, kernel=self.kernel[:, classes], bias=bias)

    def describe(self) -> str:
        return f"{super().describe()}, computed where they are compared"


@struct.dataclass
class TopK(LogitsForm):
    """Log-probabilities of the K likeliest classes, and the exact total of all others.

    Attributes:
        values: `[*n, k]`, log-probabilities over all classes.
        ids: `[*n, k]`, int32, the listed classes.
        log_rest: `[*n]`, log of the probability of all other classes together; -inf if there are none.
        num_classes: number of classes, listed or not.
    """

    values: jax.Array
    ids: jax.Array
    log_rest: jax.Array
    num_classes: int = struct.field(pytree_node=False)
    lists_all_classes = False

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return self.values.shape[:-1]

    def dense(self) -> jax.Array:
        raise UserError(
            "logits must cover every class, got the likeliest ones only (TopK). Use a network that outputs logits, or"
            " method 'top_k'."
        )

    def comparable(self) -> "TopK":
        return self

    def in_float32(self) -> "TopK":
        return dataclasses.replace(self, values=precise(self.values), log_rest=precise(self.log_rest))

    def describe(self) -> str:
        return f"of the likeliest {self.values.shape[-1]} classes {self.values.shape[1:]}, and of the rest"


Logits = jax.Array | LogitsForm
"""`[*n, classes]` as an array, or a form of it (`Unembedding`, `TopK`)."""


def prediction_shape(logits: Logits) -> tuple[int, ...]:
    """Returns the shape of the predictions, `[*n]`: that of the logits without the class axis."""
    return logits.prediction_shape if isinstance(logits, LogitsForm) else logits.shape[:-1]


def num_classes(logits: Logits) -> int:
    """Returns the number of classes; of a `TopK`, the unlisted ones included."""
    return logits.num_classes if isinstance(logits, LogitsForm) else logits.shape[-1]


def lists_all_classes(logits: Logits) -> bool:
    """Returns whether there is a logit for every class."""
    return logits.lists_all_classes if isinstance(logits, LogitsForm) else True


def comparable(logits: Logits) -> jax.Array | TopK:
    """Returns logits that a loss can compare: those of an `Unembedding` are computed, others are unchanged."""
    return logits.comparable() if isinstance(logits, LogitsForm) else logits


def dense(logits: Logits) -> jax.Array:
    """Returns logits as an array `[*n, classes]`.

    Raises:
        UserError: for a form that lists only some classes.
    """
    return logits.dense() if isinstance(logits, LogitsForm) else logits


def select_classes(logits: Logits, classes: slice | jax.Array) -> Logits:
    """Returns the logits of some classes, in that order."""
    return logits.select_classes(classes) if isinstance(logits, LogitsForm) else logits[..., classes]


def rows(logits: Logits) -> Any:
    """Returns the arrays with one row per prediction, a tree of `[*n, ...]`."""
    return logits.rows if isinstance(logits, LogitsForm) else logits


def with_rows(logits: Logits, rows: Any) -> Logits:
    """Returns the same form of logits for other predictions, whose `rows` are a tree of `[*m, ...]`."""
    return logits.with_rows(rows) if isinstance(logits, LogitsForm) else rows


def row_function(logits: Logits) -> jax.tree_util.Partial:
    """Returns the function from some of the `rows` to the `comparable` logits of these rows, a tree of its arrays."""
    return logits.row_function() if isinstance(logits, LogitsForm) else jax.tree_util.Partial(lambda rows: rows)


def describe_logits(logits: Logits) -> str:
    """Describes the logits of one example by their shape, for `--plan`."""
    return logits.describe() if isinstance(logits, LogitsForm) else str(tuple(logits.shape[1:]))


@struct.dataclass
class Output:
    """The output of a network for a batch.

    Attributes:
        logits: `[*n, classes]`, unnormalised log-probabilities, float32; or a `LogitsForm`.
        taps: named inner values, `[batch, ...]` each; the names are a contract in the model's docstring.
    """

    logits: Logits
    taps: Mapping[str, jax.Array] = struct.field(default_factory=dict)

    def tap(self, name: str) -> jax.Array:
        """Returns the tap of that name.

        Raises:
            UserError: for an unknown name, with the existing ones.
        """
        if name not in self.taps:
            raise unknown("tap", name, self.taps)
        return self.taps[name]

    def in_float32(self) -> "Output":
        """Returns the output with floats in at least float32; the parts of an `Unembedding` are unchanged."""
        logits, taps = self.logits, jax.tree.map(_float32_if_float, self.taps)
        logits = logits.in_float32() if isinstance(logits, LogitsForm) else _float32_if_float(logits)
        return dataclasses.replace(self, logits=logits, taps=taps)


class Method(nn.Module):
    """A published method of distillation: one file in `methods/`, its fields the paper's defaults.

    `__call__(student, teacher, batch)` returns one value per prediction, `[*n]` in float32, never reduced.
    A method may create params (adapters), variables (memories) and draw from the rng stream `method`; it reads all
    shapes off the outputs that it is initialised with. Gradients never reach the teacher: the step stops them.

    Class attributes:
        needs_teacher: whether a term of this method must name a teacher.
        same_classes: whether the student's and the teacher's logits must be over the same classes.
        needs_labels: whether it reads `batch["label"]`.
        needs_whole_batch: whether a value depends on the other rows; `build` refuses it beside accumulation.
        needs_samples: whether labels must be drawn from the student's own distribution; `build` checks it.
        zero_at_teacher: whether value and gradient are 0 for a student whose outputs equal the teacher's.
        predictions: forms of predictions that it compares, such as "classes" or "gaussian"; any if empty.
    """

    needs_teacher = True
    same_classes = True
    needs_labels = False
    needs_whole_batch = False
    needs_samples = False
    zero_at_teacher = False
    predictions: ClassVar[tuple[str, ...]] = ()

    def valid(self, batch: Batch) -> jax.Array:
        """Returns the mask of the values that count, `[batch, ...]`: by default 1 for each real example, `[batch]`."""
        return batch["mask"]

    def check(self) -> None:
        """Checks the fields, before anything is compiled.

        Raises:
            UserError: for a field with a value that it cannot have.
        """


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand of the loss: `student` learns from `teacher` by `method`, weighted by `weight(step)`.

    `schedules` are of the method's fields that change. An empty `teacher` is "teacher" for a method that needs one.
    """

    method: Method
    student: str = "student"
    teacher: str | None = ""
    weight: Schedule = lambda step: 1.0
    schedules: Mapping[str, Schedule] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.teacher == "":
            object.__setattr__(self, "teacher", "teacher" if self.method.needs_teacher else None)

    def method_at(self, step: jax.Array | int) -> Method:
        """Returns the method with its fields as scheduled at an optimizer step."""
        return self.method.clone(**{name: schedule(step) for name, schedule in self.schedules.items()})


@struct.dataclass
class State:
    """Everything that a step changes and a checkpoint holds.

    Attributes:
        step: int32 scalar, optimizer steps taken.
        key: key of this run's own randomness (dropout, methods); the data has its own.
        params: `{name: tree}`, moved by the optimizer: trained networks, adapters of methods.
        variables: `{name: {collection: tree}}`, changed otherwise: batch statistics, memories, EMA weights.
        opt_state: of the optimizer, for `params`.
        texts: written texts that later steps read again (`generation.on_policy`); {} for none.
    """

    step: jax.Array
    key: jax.Array
    params: Mapping[str, Any]
    variables: Mapping[str, Variables]
    opt_state: Any
    texts: Mapping[str, Any] = struct.field(default_factory=dict)


def mean(values: jax.Array, mask: jax.Array, fraction: jax.Array | float = 1.0) -> jax.Array:
    """Averages `values` over the predictions that `mask` keeps.

    Args:
        values: `[*n]`.
        mask: `[*m]`, where `m` is a prefix of `n`: an example's mask counts for all its predictions.
        fraction: this batch's part of the whole batch's count, so that means of micro-batches add up.

    Returns:
        A float32 scalar, 0 with zero gradient for an empty mask. Masked values may be anything; their own derivatives
        must be finite, since 0 times infinity is not 0.
    """
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape)
    counted = jnp.where(mask > 0, values.astype(jnp.float32), 0.0)
    weights = mask.astype(jnp.float32)
    return fraction * jnp.sum(counted * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def precise(x: jax.Array) -> jax.Array:
    """Returns floats in at least float32: losses do not compute in the network's compute dtype."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _float32_if_float(x: jax.Array) -> jax.Array:
    return precise(x) if jnp.issubdtype(x.dtype, jnp.floating) else x


def split_params(variables: Variables) -> tuple[Any, Variables]:
    """Splits a module's variables into its params and the rest."""
    return variables.get("params", {}), {name: tree for name, tree in variables.items() if name != "params"}


def merge_variables(
    params: Mapping[str, Any], variables: Mapping[str, Variables], frozen: Mapping[str, Variables]
) -> dict[str, dict[str, Any]]:
    """Returns `{name: {collection: tree}}`, the variables of every network and term."""
    names = dict.fromkeys([*params, *variables, *frozen])
    return {
        name: ({"params": params[name]} if name in params else {})
        | dict(variables.get(name, {}))
        | dict(frozen.get(name, {}))
        for name in names
    }


def fold_in(key: jax.Array, names: Iterable[str]) -> dict[str, jax.Array]:
    """Derives one key per name, which depends on the name alone, not on the number or order of the names."""
    return {name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in names}


def example_keys(key: jax.Array, batch: Batch) -> jax.Array:
    """Derives one key per example, `[batch]`, that depends on its index and not on its position in the batch."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"])


def path_name(path: Iterable[Any]) -> str:
    """Writes a pytree path as `student/Conv_0/kernel`."""
    return "/".join(str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part)))) for part in path)


def count(tree: Any) -> int:
    """Counts the numbers in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
