"""Averages of the logits of several networks, of all predictions or of some at a time."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxdistill import core
from jaxdistill.core import Logits, LogitsForm
from jaxdistill.errors import UserError
from jaxdistill.modules import regression_method, weightings
from jaxdistill.modules.weightings import Weighting

Labels = jax.Array | None
"""Labels that a weighting reads: `[*n]`, or mixed ones `[*n, classes]`; `None` for a weighting without."""


@dataclasses.dataclass(frozen=True)
class Average:
    """The average of logits `[members, *n, classes]`, of each prediction alone.

    Attributes:
        quantity: that is averaged, "probabilities", "logits" or "gaussian".
        weighting: of the members of a prediction.
        member_weights: by which those weights are multiplied; 1 if empty.
    """

    quantity: str
    weighting: Weighting
    member_weights: tuple[float, ...] = ()

    def __call__(self, logits: Float[Array, "members *n classes"], label: Labels) -> Float[Array, "*n classes"]:
        """Returns the average; "probabilities" gives log-probabilities."""
        log_probs = jax.nn.log_softmax(logits)
        weights = jax.lax.stop_gradient(self._weigh(log_probs, label))[..., None]
        if self.quantity == "probabilities":
            return jax.nn.logsumexp(log_probs, 0, b=weights)
        if self.quantity == "gaussian":
            pairs = regression_method.split_targets(logits, logits.shape[-1] // 2)
            return mix_gaussians(pairs, weights).reshape(logits.shape[1:])
        return jnp.sum(weights * logits, 0)

    def _weigh(self, log_probs: jax.Array, label: Labels) -> jax.Array:
        """Returns weights that sum to 1, `[members, *n]`."""
        fixed = jnp.asarray(self.member_weights or (1.0,) * len(log_probs), log_probs.dtype)
        fixed = fixed.reshape(-1, *[1] * (log_probs.ndim - 2))
        if not weightings.reads_labels(self.weighting):
            weights = self.weighting(log_probs)
        else:
            weights = weightings.equal(log_probs) if label is None else self.weighting(log_probs, label=label)
        weights = fixed * weights
        total = jnp.sum(weights, 0, keepdims=True)
        # If no member with a fixed weight has any confidence, the fixed weights alone count.
        uncertain = fixed / jnp.sum(fixed, 0, keepdims=True)
        return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), uncertain)


@struct.dataclass
class AveragedLogits(LogitsForm):
    """Logits that are not computed yet, with an unembedding of each network; a chunk computes and averages all of them.

    Attributes:
        members: the networks' logits, of the same predictions `[*n]` and classes, which list all classes.
        label: as `Average` takes it, with one row for each prediction.
        average: of the members.
    """

    members: Any
    label: Any
    average: Average = struct.field(pytree_node=False)

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return core.prediction_shape(self.members[0])

    @property
    def num_classes(self) -> int:
        return core.num_classes(self.members[0])

    @property
    def rows(self) -> Any:
        return tuple(core.rows(member) for member in self.members), self.label

    def with_rows(self, rows: Any) -> "AveragedLogits":
        members, label = rows
        return AveragedLogits(tuple(map(core.with_rows, self.members, members)), label, self.average)

    def dense(self) -> jax.Array:
        return self.average(jnp.stack([core.dense(member) for member in self.members]), self.label)

    def row_function(self) -> jax.tree_util.Partial:
        functions = tuple(core.row_function(member) for member in self.members)
        return jax.tree_util.Partial(AverageRows(self.average), functions)

    def describe(self) -> str:
        return f"{super().describe()}, the average of {len(self.members)} networks"


@dataclasses.dataclass(frozen=True)
class AverageRows:
    """The average of some rows of `AveragedLogits`, by the row function of each member."""

    average: Average

    def __call__(self, functions: Sequence[Any], rows: Any) -> jax.Array:
        members, label = rows
        logits = [function(x) for function, x in zip(functions, members, strict=True)]
        return self.average(jnp.stack(logits), label)


def average_logits(members: Sequence[tuple[str, Logits]], label: Labels, average: Average) -> Logits:
    """Returns the average of logits: an array if all are arrays, or not computed yet.

    Args:
        members: name and logits of each network.
        label: as `Average` takes it.
        average: of the members.

    Raises:
        UserError: for networks of other predictions or classes, or that list some classes alone.
    """
    if not all(core.lists_all_classes(x) for _, x in members):
        forms = {name: core.describe_logits(x) for name, x in members}
        raise UserError(
            f"members of an ensemble must output logits of all classes, got {forms}. Take networks, or caches of"
            " store='logits' or 'hidden'"
        )
    shapes = {name: (*core.prediction_shape(x), core.num_classes(x)) for name, x in members}
    if len({*shapes.values()}) > 1:
        raise UserError(
            f"members of an ensemble must output logits over the same classes, got {shapes}. Set keep_classes for one"
            " whose vocabulary is padded, or classes"
        )
    arrays = [x for _, x in members if not isinstance(x, LogitsForm)]
    if len(arrays) == len(members):
        return average(jnp.stack(arrays), label)
    return AveragedLogits(tuple(x for _, x in members), label, average)


def mix_gaussians(outputs: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns mean and log variance of a mixture, `[*n, 2]`.

    Args:
        outputs: mean and log variance of each member, `[members, *n, 2]`.
        weights: that sum to 1, `[members, *n]`.
    """
    means, logs = outputs[..., 0], outputs[..., 1]
    mean = jnp.sum(weights * means, 0, keepdims=True)
    # The spread of the means is added, not the difference of two squares, which could be negative.
    variance = jnp.sum(weights * (jnp.exp(logs) + (means - mean) ** 2), 0)
    return jnp.stack([mean[0], jnp.log(variance)], -1)
