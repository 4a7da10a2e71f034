"""Metrics of a network's fidelity to another, the reference, right or wrong."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.losses import divergence
from jaxdistill.metrics.metric import Metric, Ratio, labelled, map_pairs, predicted, total, valid


class FidelityRatio(Ratio):
    """A mean over predictions that compares two networks."""

    needs_reference = True
    same_classes = True


@dataclasses.dataclass(frozen=True)
class Agreement(FidelityRatio):
    """The fraction of predictions for which both networks' argmax is the same, right or wrong.

    The "average top-1 agreement" of Stanton et al., "Does Knowledge Distillation Really Work?", NeurIPS 2021
    (arXiv:2106.05945).
    """

    needs_labels = False

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        def same(logits: jax.Array, others: jax.Array) -> jax.Array:
            return jnp.argmax(logits, -1) == jnp.argmax(others, -1)

        return total(map_pairs(same, output, reference), valid(batch))


@dataclasses.dataclass(frozen=True)
class Overlap(FidelityRatio):
    """The mean fraction of the reference's `k` likeliest classes that are also among the network's, in any order.

    With fewer than `k` classes, k is their number and the value 1. Among equal logits the lower class comes first,
    as in argmax.
    """

    k: int
    needs_labels = False

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        k = min(self.k, core.num_classes(output.logits))

        def overlap(*sides: jax.Array) -> jax.Array:
            left, right = (jax.lax.top_k(logits, k)[1] for logits in sides)
            return jnp.sum(left[..., :, None] == right[..., None, :], (-2, -1)) / k

        return total(map_pairs(overlap, output, reference), valid(batch))


@dataclasses.dataclass(frozen=True)
class Covered(FidelityRatio):
    """The mean probability that the reference gives to the network's `k` likeliest classes.

    A network that has left out modes of its reference, as reverse KL permits, covers less than the reference's own `k`.
    """

    k: int
    needs_labels = False

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        k = min(self.k, core.num_classes(output.logits))

        def covered(logits: jax.Array, others: jax.Array) -> jax.Array:
            probabilities = jnp.exp(divergence.log_probabilities(others))
            return jnp.sum(jnp.take_along_axis(probabilities, jax.lax.top_k(logits, k)[1], -1), -1)

        return total(map_pairs(covered, output, reference), valid(batch))


@dataclasses.dataclass(frozen=True)
class KL(FidelityRatio):
    """The mean of KL(reference || network) in nats, at temperature 1.

    The "average predictive KL" of Stanton et al. 2021, as of `Agreement`.
    """

    better = "min"
    needs_labels = False

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        return total(map_pairs(lambda logits, others: divergence.kl(others, logits), output, reference), valid(batch))


@dataclasses.dataclass(frozen=True)
class CopiedErrors(FidelityRatio):
    """Of the predictions that the reference gets wrong, the fraction for which the network has the same wrong class.

    Neither end is good: a faithful student copies errors, an accurate one does not. nan if the reference makes none.
    """

    better = None

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        left, right = predicted(output), predicted(reference)
        return total(left == right, labelled(batch) & (right != batch["label"]))


@dataclasses.dataclass(frozen=True)
class AccuracyWhere(FidelityRatio):
    """The network's accuracy on the predictions that the reference gets right, or on those that it gets wrong.

    nan if there are none.
    """

    right: bool

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        left, right = (predicted(side) == batch["label"] for side in (output, reference))
        return total(left, labelled(batch) & (right == self.right))


METRICS: dict[str, Metric] = {
    "agreement": Agreement(),
    "overlap5": Overlap(5),
    "covered5": Covered(5),
    "kl": KL(),
    "copied_errors": CopiedErrors(),
    "accuracy_where_right": AccuracyWhere(True),
    "accuracy_where_wrong": AccuracyWhere(False),
}
