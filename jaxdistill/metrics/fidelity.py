"""How faithfully a network does what another, the reference, does, be it right or wrong.

All take `output.logits` and `reference.logits`, `[batch, classes]` over the same classes, and `batch["mask"]`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdistill.losses import divergence
from jaxdistill.metrics.classification import ECE, bin_sums, labelled, ratio, total


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The share of examples for which both networks' argmax is the same; it needs no labels.

    The "average top-1 agreement" of Stanton et al., "Does Knowledge Distillation Really Work?", NeurIPS 2021
    (arXiv:2106.05945).
    """

    better, needs_reference, needs_labels, same_classes = "max", True, False, True

    def sums(self, output, batch, reference):
        same = jnp.argmax(output.logits, -1) == jnp.argmax(reference.logits, -1)
        return total(same, batch["mask"] > 0)

    def finish(self, sums) -> float:
        return float(ratio(sums["sum"], sums["count"]))


@dataclasses.dataclass(frozen=True)
class Overlap:
    """The mean share of the reference's `k` likeliest classes that are also among the network's, in any order.

    With fewer than `k` classes, k is their number and the value 1. Among equal logits the lower class comes first,
    as in argmax.
    """

    k: int
    better, needs_reference, needs_labels, same_classes = "max", True, False, True

    def sums(self, output, batch, reference):
        k = min(self.k, output.logits.shape[-1])
        own, other = (jax.lax.top_k(said.logits, k)[1] for said in (output, reference))
        return total(jnp.sum(own[:, :, None] == other[:, None, :], (1, 2)) / k, batch["mask"] > 0)

    def finish(self, sums) -> float:
        return float(ratio(sums["sum"], sums["count"]))


@dataclasses.dataclass(frozen=True)
class KL:
    """The mean of KL(reference || network) in nats, at temperature 1.

    The "average predictive KL" of Stanton et al. 2021, as of `Agreement`.
    """

    better, needs_reference, needs_labels, same_classes = "min", True, False, True

    def sums(self, output, batch, reference):
        return total(divergence.kl(reference.logits, output.logits), batch["mask"] > 0)

    def finish(self, sums) -> float:
        return float(ratio(sums["sum"], sums["count"]))


@dataclasses.dataclass(frozen=True)
class ECEGap:
    """The network's expected calibration error minus the reference's; below 0 it is the better calibrated one."""

    better, needs_reference, needs_labels, same_classes = "min", True, True, True

    def sums(self, output, batch, reference):
        return {"own": bin_sums(output, batch), "reference": bin_sums(reference, batch)}

    def finish(self, sums) -> float:
        return ECE().finish(sums["own"]) - ECE().finish(sums["reference"])


@dataclasses.dataclass(frozen=True)
class CopiedErrors:
    """Of the examples that the reference gets wrong, the share that the network takes for the same wrong class.

    Neither end is good: a faithful student copies errors, an accurate one does not. nan where the reference makes none.
    """

    better, needs_reference, needs_labels, same_classes = None, True, True, True

    def sums(self, output, batch, reference):
        own, other = jnp.argmax(output.logits, -1), jnp.argmax(reference.logits, -1)
        return total(own == other, labelled(batch) & (other != batch["label"]))

    def finish(self, sums) -> float:
        return float(ratio(sums["sum"], sums["count"]))


@dataclasses.dataclass(frozen=True)
class AccuracyWhere:
    """The network's accuracy on the examples that the reference gets right, or on those that it gets wrong.

    nan where there are none.
    """

    right: bool
    better, needs_reference, needs_labels, same_classes = "max", True, True, True

    def sums(self, output, batch, reference):
        own, other = (jnp.argmax(said.logits, -1) == batch["label"] for said in (output, reference))
        return total(own, labelled(batch) & (other == self.right))

    def finish(self, sums) -> float:
        return float(ratio(sums["sum"], sums["count"]))
