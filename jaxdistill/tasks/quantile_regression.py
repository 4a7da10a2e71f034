"""Regression with quantiles of each target."""

from typing import ClassVar

import numpy as np

from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks.regression import Regression


class QuantileRegression(Regression):
    """Fields as those of `regression`.

    A network outputs nine numbers for each target, the quantiles of the levels 1/18, 3/18, ..., 17/18; the fifth is the
    median.
    """

    metric_names: ClassVar = ("rmse", "mae", "r2", "pinball", "per_target")
    predictions: ClassVar = "quantiles"
    averages: ClassVar = ("logits",)
    outputs: ClassVar = 9

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return False

    def spread(self, numbers: np.ndarray, *, shift: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the `quantiles`, `[examples, targets, quantiles]`."""
        return {"quantiles": shift[:, None] + scale[:, None] * numbers.astype(np.float64)}
