"""The few types that everything else is made of, and the few functions over them.

    networks:  name -> source of Output            terms:  name -> (student, teacher, method, weight)

A network says `Output`s, a method compares two of them and returns one value per prediction, and
`mean` is the only place where values become a number.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxdistill.errors import unknown

Batch = Mapping[str, jax.Array]
Variables = Mapping[str, Any]
Schedule = Callable[[Any], Any]

UNLABELLED = -1
"""The label of an example whose label the student may not see."""

LUMINANCE = (0.299, 0.587, 0.114)
"""What red, green and blue add to the brightness: ITU-R Recommendation BT.601, section 2.5.1."""

CACHED = "cached/"
"""How the names in a batch begin of what a cache holds: `cached/NETWORK/ARRAY`."""


@struct.dataclass
class Output:
    """What a network says about a batch.

    Attributes:
        logits: `[*n, classes]`, unnormalised log-probabilities, float32; or an `Unembedding` or a `TopK`, which
            methods over a vocabulary take in their place.
        taps: named inner values, `[batch, ...]` each; the names are a contract in the model's docstring.
    """

    logits: jax.Array
    taps: Mapping[str, jax.Array] = struct.field(default_factory=dict)

    def tap(self, name: str) -> jax.Array:
        """Returns the tap of that name, or raises `UserError` with the names there are."""
        if name not in self.taps:
            raise unknown("tap", name, self.taps)
        return self.taps[name]


@struct.dataclass
class Unembedding:
    """Logits that are not computed yet, `hidden @ kernel + bias`: a chunk of tokens at a time fits where all do not.

    Attributes:
        hidden: `[*n, width]`.
        kernel: `[width, vocabulary]`.
        bias: `[vocabulary]`, or `None`.
    """

    hidden: jax.Array
    kernel: jax.Array
    bias: jax.Array | None = None

    def dense(self) -> jax.Array:
        """Returns the logits, `[*n, vocabulary]`, added up in at least float32."""
        exact = jnp.promote_types(jnp.promote_types(self.hidden.dtype, self.kernel.dtype), jnp.float32)
        logits = jnp.matmul(self.hidden, self.kernel, preferred_element_type=exact)
        return logits if self.bias is None else logits + self.bias.reshape(*[1] * (logits.ndim - 1), -1)


@struct.dataclass
class TopK:
    """What a distribution says of its K likeliest classes and, exactly, of all the others together.

    Attributes:
        values: `[*n, k]`, log-probabilities over the whole vocabulary.
        ids: `[*n, k]`, int32, their classes.
        log_rest: `[*n]`, the log of the probability that is left; -inf where none is.
    """

    values: jax.Array
    ids: jax.Array
    log_rest: jax.Array


def predictions(said: jax.Array | Unembedding | TopK) -> tuple[int, ...]:
    """Returns `[*n]`, the shape of the predictions that logits, or what stands in their place, are of."""
    rows = {Unembedding: "hidden", TopK: "values"}.get(type(said))
    return (getattr(said, rows) if rows else said).shape[:-1]


class Method(nn.Module):
    """A published way for a student to learn: one file in `methods/`, its fields the paper's defaults.

    `__call__(student, teacher, batch)` returns one value per prediction, `[*n]` in float32, never reduced.
    A method may create params (adapters), variables (memories) and draw from the rng stream `method`; all
    shapes are read off the outputs it first meets. Gradients never reach the teacher: the step stops them.

    Class attributes:
        needs_teacher: whether a term of this method must name a teacher.
        same_classes: whether the student's and the teacher's logits must be over the same classes.
        needs_labels: whether it reads `batch["label"]`.
        needs_whole_batch: whether a prediction's value depends on the other rows, so that accumulation over
            micro-batches would change the loss; `build` refuses the combination.
        zero_at_teacher: whether a student that says what its teacher says has value 0 and gradient 0.
        domain: what it compares: "classification" (logits and feature maps of images), "dense" (logits of pixels
            and feature maps), "encoder" (of text), "language" (next tokens) or "derivative".
    """

    needs_teacher = True
    same_classes = True
    needs_labels = False
    needs_whole_batch = False
    zero_at_teacher = False
    domain = "classification"

    def valid(self, batch: Batch) -> jax.Array:
        """Returns the mask of the predictions that count, `[batch, ...]`; the default is the examples' own."""
        return batch["mask"]

    def check(self) -> None:
        """Raises `UserError` where a field makes no sense; called before anything is compiled."""


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand of the loss: `student` learns from `teacher` by `method`, weighted by `weight(step)`.

    `schedules` are those of the method's fields that change from step to step.
    """

    method: Method
    student: str = "student"
    teacher: str | None = "teacher"
    weight: Schedule = lambda step: 1.0
    schedules: Mapping[str, Schedule] = dataclasses.field(default_factory=dict)

    def at(self, step: jax.Array | int) -> Method:
        """Returns the method as it is at an optimizer step."""
        return self.method.clone(**{name: schedule(step) for name, schedule in self.schedules.items()})


@struct.dataclass
class State:
    """All that a step changes, and all that a checkpoint holds.

    Attributes:
        step: int32 scalar, optimizer steps taken.
        key: the key of this run's own randomness (dropout, methods); the data has its own.
        params: `{name: tree}` of what the optimizer moves: trained networks, adapters of methods.
        variables: `{name: {collection: tree}}` of what else changes: batch statistics, memories, EMA weights.
        opt_state: the optimizer's, for `params`.
    """

    step: jax.Array
    key: jax.Array
    params: Mapping[str, Any]
    variables: Mapping[str, Variables]
    opt_state: Any


def mean(values: jax.Array, mask: jax.Array, share: jax.Array | float = 1.0) -> jax.Array:
    """Averages `values` over the predictions that `mask` keeps.

    Args:
        values: `[*n]`.
        mask: `[*m]`, where `m` is a prefix of `n`: an example's mask counts for all its predictions.
        share: this batch's part of the count of the whole, so that means of micro-batches add up.

    Returns:
        A float32 scalar, 0 with zero gradient where the mask is empty. Masked values may be anything; their
        own derivatives must be finite, since 0 times infinity is not 0.
    """
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape)
    kept = jnp.where(mask > 0, values.astype(jnp.float32), 0.0)
    weights = mask.astype(jnp.float32)
    return share * jnp.sum(kept * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def precise(x: jax.Array) -> jax.Array:
    """Returns floats in at least float32: losses do not compute in what the network computed in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def split(variables: Variables) -> tuple[Any, Variables]:
    """Splits a module's variables into its params and the rest."""
    return variables.get("params", {}), {name: tree for name, tree in variables.items() if name != "params"}


def merge(params: Mapping[str, Any], variables: Mapping[str, Variables], frozen: Mapping[str, Variables]):
    """Returns `{name: {collection: tree}}`, all that is known of every network and term."""
    names = dict.fromkeys([*params, *variables, *frozen])
    return {
        name: ({"params": params[name]} if name in params else {})
        | dict(variables.get(name, {}))
        | dict(frozen.get(name, {}))
        for name in names
    }


def fold_in(key: jax.Array, names: Iterable[str]) -> dict[str, jax.Array]:
    """Derives one key per name, which depends on the name alone and not on the others' number or order."""
    return {name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in names}


def example_keys(key: jax.Array, batch: Batch) -> jax.Array:
    """Derives one key per example, `[batch]`, that depends on its index and not on its place in the batch."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"])


def path_name(path) -> str:
    """Writes a pytree path as `student/Conv_0/kernel`."""
    return "/".join(str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part)))) for part in path)


def count(tree: Any) -> int:
    """Counts the numbers in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
