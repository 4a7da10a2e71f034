"""The protocol of a metric, and sums over predictions."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.losses import chunked

CHUNK = 1 << 24
"""Upper bound of the numbers of logits, predictions times classes, that exist at once: 64 MiB."""


@runtime_checkable
class Metric(Protocol):
    """A number or table of a split, from sums that add up over batches and hosts.

    Attributes:
        better: "max" or "min", the better end; `None` if neither is, or if `finish` returns a table.
        needs_reference: whether `reference` must be another network's output.
        needs_labels: whether predictions without a label do not count.

    One that compares two networks also has `same_classes`: whether they must have the same classes.
    One for numbers of a target's distribution also has `predictions`, their form: "gaussian" or "quantiles"; one that
    reads where the predictions of an image are has "pixels".
    One whose sums depend on how examples are divided into batches also has `compares_examples = True`, and one whose
    `finish` returns a table `is_table = True`: neither has values of the parts of a split.
    One that no sums give is a `GatheringMetric`.
    """

    better: str | None
    needs_reference: bool
    needs_labels: bool

    def sums(self, output: Output, batch: Batch, reference: Output | None) -> Any:
        """Returns the sums of a batch, a tree of arrays, on the device."""
        ...

    def finish(self, sums: Any) -> Any:
        """Returns the metric from the added sums, in float64 on the host; nan for an empty split."""
        ...


class Gather(Protocol):
    """Rows of each example that a split is measured by, and their summary, which several metrics may share.

    Attributes:
        name: metrics whose gathers have one name share the rows and the summary of the first.
    """

    name: str

    def rows(self, output: Output, batch: Batch) -> Any:
        """Returns a tree of arrays `[batch, ...]` of fixed sizes, on the device."""
        ...

    def summarize(self, rows: Any) -> Any:
        """Returns the summary of the rows of all examples that count, `[examples, ...]`, on the host."""
        ...


@runtime_checkable
class GatheringMetric(Protocol):
    """A number or table of a split that needs all its examples at once, such as average precision.

    Rows of examples are gathered over batches and hosts instead of added; masked ones are left out.

    Attributes:
        better, needs_reference, needs_labels: as of `Metric`; it is of one network, so that `needs_reference` is False.
    """

    better: str | None
    needs_reference: bool
    needs_labels: bool
    gather: Gather

    def finish(self, summary: Any) -> Any:
        """Returns the metric from the summary; nan for an empty split."""
        ...


@runtime_checkable
class ExampleMetric(Protocol):
    """A metric whose differences between two networks have a standard error over examples.

    Attributes:
        scored: the arrays that it scores examples by, of `Task.predict`, `Task.truth`, and `label`.
    """

    scored: tuple[str, ...]

    def score(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns a score of each example, float64 `[examples]`, whose mean is the metric; NaN without a label.

        Args:
            arrays: those of `scored`, `[examples, ...]`.
        """
        ...


class Ratio:
    """A metric whose sums are `total(...)`: its value is their mean."""

    better: str | None = "max"
    needs_reference = False
    needs_labels = True

    def finish(self, sums: Mapping[str, Any]) -> float:
        return float(ratio(sums["sum"], sums["count"]))


def valid(batch: Batch) -> jax.Array:
    """Returns the predictions that count, bool `[*n]`; those of real examples if the batch has no `valid`."""
    return batch.get("valid", batch["mask"]) > 0


def labelled(batch: Batch) -> jax.Array:
    """Returns the predictions that count and have a label, bool `[*n]`."""
    return valid(batch) & (batch["label"] != core.UNLABELLED)


def total(values: jax.Array, counted: jax.Array) -> dict[str, jax.Array]:
    """Returns the sums of a mean: of the values `[*n]` that count, and the number of these."""
    return {"sum": jnp.sum(jnp.where(counted, values, 0)), "count": jnp.sum(counted)}


def ratio(numerator: Any, denominator: Any, empty: float = np.nan) -> np.ndarray:
    """Divides in float64; the result is `empty` if the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    result = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), empty)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


def map_predictions(function: Callable[..., Any], output: Output, *arrays: jax.Array) -> Any:
    """Returns `function(logits [*m, classes], *arrays [*m])` of all predictions, computed on some at a time.

    Args:
        function: of each prediction alone; it returns `[*m]`, or a tree of arrays `[*m, ...]`.
        output: of predictions `[*n]`; its logits may be an `Unembedding`.
        arrays: `[*n]` each.
    """

    def of_one(logits: jax.Array, _: None, *arrays: jax.Array) -> Any:
        return function(logits, *arrays)

    return chunked.compare(of_one, output.logits, None, *arrays, chunk=_chunk(output))


def map_pairs(function: Callable[[jax.Array, jax.Array], Any], output: Output, reference: Output) -> Any:
    """Returns `function(logits [*m, classes], the reference's)` of all predictions, as `map_predictions` does."""
    return chunked.compare(function, output.logits, reference.logits, chunk=_chunk(output))


def predicted(output: Output) -> jax.Array:
    """Returns the class of the largest logit, int32 `[*n]`."""
    return map_predictions(lambda logits: jnp.argmax(logits, -1), output)


def _chunk(output: Output) -> int:
    return max(1, CHUNK // core.num_classes(output.logits))
