"""Gaussian likelihood of a target.

Nix, Weigend, "Estimating the mean and variance of the target probability distribution", ICNN 1994,
https://doi.org/10.1109/ICNN.1994.374138.

    loss = 1/2 [log(2 pi) + s + (y - m)^2 exp(-s)]

The network outputs the mean m and the log variance s of a Gaussian, so that its error is weighted by its own certainty.
Targets y are standardised by the training split; of several the value is the mean. The log variance is bounded by 20 on
either side.

Elsewhere: PyTorch's `GaussianNLLLoss` leaves out log(2 pi) and takes the variance, bounded from below by 1e-6.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output
from jaxdistill.losses import regression
from jaxdistill.modules.regression_method import RegressionMethod


class GaussianLikelihood(RegressionMethod):
    """The negative log-likelihood of `target` in nats, the mean over several targets."""

    needs_teacher = False
    needs_labels = True
    predictions = ("gaussian",)

    def __call__(self, student: Output, teacher: Output | None, batch: Batch) -> Float[Array, "*n"]:
        return self.average(regression.gaussian_nll, student, batch)
