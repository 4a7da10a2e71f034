"""Ranking distillation with RankNet's loss.

Burges, Shaked, Renshaw, Lazier, Deeds, Hamilton, Hullender, "Learning to Rank using Gradient Descent" (RankNet), ICML
2005, https://dl.acm.org/doi/10.1145/1102351.1102363; with the teacher's order as the target as in Reddi et al.,
"RankDistil: Knowledge Distillation for Ranking", AISTATS 2021, https://proceedings.mlr.press/v130/reddi21a.html

    loss = mean over pairs with z_t,k > z_t,l of log(1 + exp(-(z_s,k - z_s,l)))    (logistic)
    loss = mean over pairs with z_t,k > z_t,l of max(0, margin - (z_s,k - z_s,l))  (hinge)

The student puts the classes in its teacher's order, whatever the probabilities are. The hinge is that of ranking
support vector machines. Neither loss is at rest at the teacher: the logistic one never is, the hinge not if two classes
are closer than `margin`. If the teacher's logits are all equal, the value is 0. RankDistil's own losses weigh the top
of the order; these weigh all of it, and take memory for all K^2 pairs of K classes: 3.9 GB for 256 predictions of 1,000
classes, unless `chunk` is set.

Elsewhere: DistillKit does this on the classes that a sparse teacher lists, the hinge on probabilities, by default
with the teacher's own difference as the margin, and averages over the pairs of the whole batch, not of each token.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar
from jaxdistill.errors import check_names, check_positive
from jaxdistill.losses import ranking
from jaxdistill.modules.logits_method import LogitsMethod

LOSSES = ("hinge", "logistic")


def rank(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], loss: str, margin: Scalar = 1.0
) -> Float[Array, "*n"]:
    """Returns the mean over pairs; `loss` is one of `LOSSES`, `margin` the hinge's."""
    pairs = ranking.hinge(student, margin) if loss == "hinge" else ranking.logistic(student)
    return ranking.mean(pairs, ranking.order(teacher))


class Ranking(LogitsMethod):
    """`loss` is "hinge" or "logistic"; `margin` is the hinge's, in logits."""

    loss: str = "logistic"
    margin: Scalar = 1.0

    def check(self) -> None:
        super().check()
        check_names("ranking loss", [self.loss], LOSSES)
        check_positive("margin", self.margin)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(lambda s, t: rank(s, t, self.loss, self.margin), student, teacher, batch=batch)
