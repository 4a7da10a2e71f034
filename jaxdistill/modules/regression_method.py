"""Base class of the methods that learn the distributions of numbers."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jaxdistill.core import Batch, Method, Output, dense
from jaxdistill.losses import regression


class RegressionMethod(Method):
    """A method of outputs `[*n, targets * numbers]`: numbers for the distribution of each target (`losses.regression`).

    `batch["target"]` is `[*n, targets]`, standardised, NaN for a missing target; a prediction without a label has no
    target, or hidden ones. A value is the mean over the targets, so that its size does not depend on their number.
    """

    def valid(self, batch: Batch) -> Num[Array, "*n"]:
        """Returns the mask of the predictions that count; without a target they may not."""
        valid = batch["valid"] if "valid" in batch else batch["mask"]
        return valid * (batch["label"] >= 0) if self.needs_labels else valid

    def by_target(self, output: Output, batch: Batch) -> Float[Array, "*n targets numbers"]:
        """Returns the numbers of each target."""
        return split_targets(dense(output.logits), batch["target"].shape[-1])

    def average(self, loss: Any, output: Output, batch: Batch) -> Float[Array, "*n"]:
        """Returns the mean of `loss(numbers, target)`, `[*n, targets]`, over the targets that are present."""
        is_present = ~jnp.isnan(batch["target"])
        values = loss(self.by_target(output, batch), jnp.where(is_present, batch["target"], 0.0))
        return jnp.sum(jnp.where(is_present, values, 0.0), -1) / jnp.maximum(jnp.sum(is_present, -1), 1)


def split_targets(logits: Float[Array, "*n outputs"], targets: int) -> Float[Array, "*n targets numbers"]:
    """Returns the numbers of each target, which follow each other in a network's output."""
    return logits.reshape(*logits.shape[:-1], targets, -1)


def predicted_means(logits: Float[Array, "*n outputs"], targets: int, form: str) -> Float[Array, "*n targets"]:
    """Returns the mean of each target's distribution, of the form "gaussian" or "quantiles"."""
    return regression.mean_of(split_targets(logits, targets), form)
