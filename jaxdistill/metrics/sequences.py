"""Metrics of whole texts."""

import jax
import jax.numpy as jnp

from jaxdistill.core import Batch, Output
from jaxdistill.metrics.metric import Ratio, labelled, predicted, total


class ExactMatch(Ratio):
    """The fraction of texts all of whose labels are the likeliest tokens.

    It is the fraction of answers that a causal network writes token for token if it always takes the likeliest one:
    after a right beginning it reads what it reads here.
    """

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        counted = labelled(batch)
        axes = tuple(range(1, counted.ndim))
        right = jnp.all((predicted(output) == batch["label"]) | ~counted, axes)
        return total(right, jnp.any(counted, axes))


METRICS = {"exact_match": ExactMatch()}
