"""Ranking: the student puts the classes in its teacher's order, whatever the probabilities are.

Burges, Shaked, Renshaw, Lazier, Deeds, Hamilton, Hullender, "Learning to Rank using Gradient Descent" (RankNet), ICML
2005, https://dl.acm.org/doi/10.1145/1102351.1102363; with the teacher's order as the target as in Reddi et al.,
"RankDistil: Knowledge Distillation for Ranking", AISTATS 2021, https://proceedings.mlr.press/v130/reddi21a.html

    loss = mean over pairs with z_t,k > z_t,l of log(1 + exp(-(z_s,k - z_s,l)))    (logistic)
    loss = mean over pairs with z_t,k > z_t,l of max(0, margin - (z_s,k - z_s,l))  (hinge)

The hinge is that of ranking support vector machines. Neither is at rest at the teacher: the logistic one never is, the
hinge not where two classes are closer than `margin`. An example whose teacher tells no two classes apart has the value
0. RankDistil's own losses look at the top of the order; these look at all of it, and take memory for all K^2 pairs of K
classes: 3.9 GB for 256 examples of 1,000 classes.

Elsewhere: DistillKit does this on the classes that a sparse teacher lists, the hinge on probabilities, by default
with the teacher's own difference as the margin, and averages over the pairs of the whole batch, not of each token.
"""

import jax

from jaxdistill.core import Method
from jaxdistill.errors import check_names, check_positive
from jaxdistill.losses import ranking

LOSSES = ("hinge", "logistic")


def rank(student: jax.Array, teacher: jax.Array, loss: str, margin: float = 1.0) -> jax.Array:
    """Returns `[*n]` for logits `[*n, classes]`; `loss` is one of `LOSSES`, `margin` the hinge's."""
    pairs = ranking.hinge(student, margin) if loss == "hinge" else ranking.logistic(student)
    return ranking.mean(pairs, ranking.order(teacher))


class Ranking(Method):
    """`loss` is "hinge" or "logistic"; `margin` is the hinge's, in logits."""

    loss: str = "logistic"
    margin: float = 1.0

    def check(self):
        check_names("ranking loss", [self.loss], LOSSES)
        check_positive("margin", self.margin)

    def __call__(self, student, teacher, batch):
        return rank(student.logits, teacher.logits, self.loss, self.margin)
