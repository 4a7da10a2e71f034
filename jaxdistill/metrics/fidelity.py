"""How faithfully a network does what another does, be it right or wrong."""

import dataclasses

import jax.numpy as jnp

from jaxdistill.metrics.classification import ratio, total


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The share of examples for which both networks' argmax is the same; it needs no labels.

    The "average top-1 agreement" of Stanton et al., "Does Knowledge Distillation Really Work?", NeurIPS 2021
    (arXiv:2106.05945).
    """

    better, needs_reference, needs_labels = "max", True, False

    def sums(self, output, batch, reference):
        same = jnp.argmax(output.logits, -1) == jnp.argmax(reference.logits, -1)
        return total(same, batch["mask"] > 0)

    def finish(self, sums) -> float:
        return float(ratio(sums["sum"], sums["count"]))
