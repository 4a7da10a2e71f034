"""Quantile regression.

Koenker, Bassett, "Regression Quantiles", Econometrica 1978, https://doi.org/10.2307/1913643.

    loss = mean over i of max(t_i u_i, (t_i - 1) u_i)        u_i = y - q_i,  t_i = (i - 1/2) / Q

The network outputs Q quantiles q_i of the standardised target y, without any assumption on its distribution. Their
levels are the midpoints of Q equal intervals. Of several targets the value is the mean. Nothing forces the quantiles
to be in order.

Elsewhere: scikit-learn's `mean_pinball_loss` and XGBoost's `reg:quantileerror` take levels as a setting; XGBoost sums
over several.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output
from jaxdistill.losses import regression
from jaxdistill.modules.regression_method import RegressionMethod


class QuantileRegression(RegressionMethod):
    """The pinball loss of `target`, the mean over levels."""

    needs_teacher = False
    needs_labels = True
    predictions = ("quantiles",)

    def __call__(self, student: Output, teacher: Output | None, batch: Batch) -> Float[Array, "*n"]:
        return self.average(regression.pinball, student, batch)
