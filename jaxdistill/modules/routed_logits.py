"""Logits of several networks, of which each example has those of one."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from jaxdistill import core
from jaxdistill.core import Logits, LogitsForm
from jaxdistill.errors import UserError


@struct.dataclass
class RoutedLogits(LogitsForm):
    """Logits that are not computed yet, with an unembedding of each network; a chunk computes those of all.

    Attributes:
        members: the networks' logits, of the same predictions `[*n]` and classes, which list all classes.
        route: int32 `[*n]`, the member that each prediction is of.
    """

    members: Any
    route: Any  # an array, or its shape in a tree of shapes

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return self.route.shape

    @property
    def num_classes(self) -> int:
        return core.num_classes(self.members[0])

    @property
    def rows(self) -> Any:
        return tuple(core.rows(member) for member in self.members), self.route

    def with_rows(self, rows: Any) -> "RoutedLogits":
        members, route = rows
        return RoutedLogits(tuple(map(core.with_rows, self.members, members)), route)

    def dense(self) -> jax.Array:
        return select([core.dense(member) for member in self.members], self.route)

    def row_function(self) -> jax.tree_util.Partial:
        return jax.tree_util.Partial(_select_rows, tuple(core.row_function(member) for member in self.members))

    def select_classes(self, classes: slice | jax.Array) -> "RoutedLogits":
        return RoutedLogits(tuple(core.select_classes(member, classes) for member in self.members), self.route)

    def describe(self) -> str:
        return f"{super().describe()}, of one of {len(self.members)} networks for each example"


def _select_rows(functions: Sequence[Any], rows: Any) -> Any:
    members, route = rows
    return select([function(x) for function, x in zip(functions, members, strict=True)], route)


def select(trees: Sequence[Any], route: Int[Array, "..."]) -> Any:
    """Returns the tree of which each row is that of the tree number `route`.

    Args:
        trees: of equal structure, arrays `[*n, ...]`.
        route: int `[*m]`, where `m` is a prefix of `n`.
    """

    def choose(*arrays: jax.Array) -> jax.Array:
        number = route.reshape(route.shape + (1,) * (arrays[0].ndim - route.ndim))
        chosen = arrays[0]
        for position, array in enumerate(arrays[1:], 1):
            chosen = jnp.where(number == position, array, chosen)
        return chosen

    return jax.tree.map(choose, *trees)


def choose_logits(members: dict[str, Logits], route: Int[Array, " batch"]) -> Logits:
    """Returns logits of which each example has those of one network, in the form that the networks have.

    Args:
        members: the logits of each network, by its name.
        route: the position of an example's network among these.

    Raises:
        UserError: for networks of other predictions or classes, or of forms that cannot be one.
    """
    logits = [*members.values()]
    for noun, describe in {"predictions": core.prediction_shape, "classes": core.num_classes}.items():
        values = {name: describe(x) for name, x in members.items()}
        if len({*values.values()}) > 1:
            raise UserError(
                f"of must be networks with the same {noun}, got {values}. Set keep_classes for one whose vocabulary is"
                " padded, or classes"
            )
    shapes = [jax.tree.map(jnp.shape, (x, core.rows(x))) for x in logits]
    if all(shape == shapes[0] and shape[0] == shape[1] for shape in shapes):  # rows are all of it
        return select(logits, route)
    if not all(core.lists_all_classes(x) for x in logits):
        forms = {name: core.describe_logits(x) for name, x in members.items()}
        raise UserError(f"of must be networks with logits of one form, got {forms}. Take caches of one form for all")
    shape = core.prediction_shape(logits[0])
    route = jnp.broadcast_to(route.reshape(-1, *[1] * (len(shape) - 1)), shape)
    return RoutedLogits(tuple(logits), route)
