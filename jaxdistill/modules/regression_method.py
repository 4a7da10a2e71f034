"""Base class of the methods that learn the distribution of a number."""

from jaxtyping import Array, Num

from jaxdistill.core import Batch, Method


class RegressionMethod(Method):
    """A method of outputs `[*n, numbers]` that describe the distribution of a target (`losses.regression`).

    `batch["target"]` is `[*n]`, standardised; a prediction without a label has a missing or hidden target.
    """

    def valid(self, batch: Batch) -> Num[Array, "*n"]:
        """Returns the mask of the predictions that count; without a target they may not."""
        valid = batch["valid"] if "valid" in batch else batch["mask"]
        return valid * (batch["label"] >= 0) if self.needs_labels else valid
