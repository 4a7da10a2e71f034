"""A metric: the fraction of predictions whose label is among the three best classes."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdistill.core import Batch, Output
from jaxdistill.metrics.metric import Ratio, labelled, total


@dataclasses.dataclass(frozen=True)
class Top3(Ratio):
    """Accuracy of the three best classes."""

    def sums(self, output: Output, batch: Batch, reference: Output | None) -> dict[str, jax.Array]:
        logits, label = output.logits, batch["label"]
        rank = jnp.sum(logits > jnp.take_along_axis(logits, label[..., None], -1, mode="clip"), -1)
        return total(1.0 * (rank < 3), labelled(batch))
