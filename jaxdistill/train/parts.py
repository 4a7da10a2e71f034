"""The parts of a split by the value of `data.route`, measured in the same pass as all of it."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import Batch, Output

if TYPE_CHECKING:
    from jaxdistill.train.evaluate import Measurement, Metric, Rows

ROUTE = "route"
"""The field of a batch with the number of its value, int32 `[batch]`."""


def has_parts(metric: "Metric") -> bool:
    """Whether a metric has a value for a part of a split: a number, whose sums are those of single examples."""
    return not (getattr(metric, "is_table", False) or getattr(metric, "compares_examples", False))


def sum_parts(
    metrics: Mapping[str, "Metric"], output: Output, batch: Batch, reference: Output | None, *, count: int
) -> dict[str, Any]:
    """Returns the sums of each part of a batch, `{metric: tree of [count, ...]}`.

    What does not depend on the part, such as a divergence, is computed once: only the masks have the axis of the parts.
    """

    def sum_part(mask: jax.Array) -> dict[str, Any]:
        part = _restrict(batch, mask)
        return {key: metric.sums(output, part, reference) for key, metric in metrics.items() if has_parts(metric)}

    return jax.vmap(sum_part)(batch[ROUTE][None] == jnp.arange(count)[:, None])


def _restrict(batch: Batch, mask: jax.Array) -> Batch:
    """Returns a batch of which no other examples count than those of a mask, bool `[batch]`."""
    counted = {name: batch[name] for name in ("mask", "valid") if name in batch}
    of_mask = {name: jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 1)), x, 0) for name, x in counted.items()}
    return {**batch, **of_mask}


def take_part(total: "Measurement", rows: "Rows", number: int) -> tuple["Measurement", "Rows"]:
    """Returns the sums and rows of one part of a split, from those of all of it."""
    chosen = rows.route == number
    sums = jax.tree.map(lambda x: x[number], total.part_sums)
    part = dataclasses.replace(
        total,
        sums={name: of_network for (name, reference), of_network in sums.items() if not reference},
        pair_sums={pair: of_pair for pair, of_pair in sums.items() if pair[1]},
        part_sums={},
        predictions={},
        rows=jax.tree.map(lambda x: x[..., chosen], total.rows),
    )
    return part, type(rows)(rows.label[chosen], rows.index[chosen], rows.route[chosen])


def count_parts(rows: "Rows", count: int) -> np.ndarray:
    """Returns the number of examples of each part, int `[count]`."""
    return np.bincount(rows.route, minlength=count)


def gather_numbers(values: Mapping[str, Any], of_parts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Returns the numbers among metrics, and those of each part as `METRIC:VALUE`, such as `accuracy:fr`."""
    numbers = {metric: value for metric, value in values.items() if isinstance(value, float)}
    return numbers | {
        f"{metric}:{value}": part[metric]
        for metric in numbers
        for value, part in of_parts.items()
        if isinstance(part.get(metric), float)
    }
