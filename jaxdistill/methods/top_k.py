"""Top-K distillation with an exact rest.

Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025,
https://arxiv.org/abs/2503.16870, which shows that a top-K target without the rest is a biased one.

    loss = sum_(k in K) p_k log(p_k / q_k) + p_rest log(p_rest / q_rest)

K are the teacher's likeliest classes and "rest" is one more class, all the others: the KL of the two distributions over
these K + 1 classes, at most the KL over all. Both rests are exact, so nothing is renormalised, and probability that a
student puts outside K counts. The teacher's logits may be a `core.TopK`, as a cache stores it, with its own K; from
dense logits it is made here. A temperature is not offered: the tempered rest does not follow from the rest.

Elsewhere: TRL's `add_tail` agrees; without it TRL, Tunix, MaxText and ModelOpt renormalise both sides on K, so that a
student that puts 94 % elsewhere has loss 0; this is not offered. DistillKit's "zero" and EasyDeL renormalise the
teacher alone, which is biased; DistillKit's "symmetric_uniform" agrees at temperature 1, and otherwise tempers the
rest as if it were one token.
"""

from jaxtyping import Array, Float

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.errors import check_least
from jaxdistill.losses import topk
from jaxdistill.modules.logits_method import LogitsMethod


def top_k(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"] | core.TopK, k: int
) -> Float[Array, "*n"]:
    """Returns nats; `k` is used for dense teachers."""
    return topk.kl(topk.from_logits(teacher, k) if core.lists_all_classes(teacher) else teacher, student)


class TopK(LogitsMethod):
    """`k` is the number of classes taken from dense logits; 64 is no paper's, papers take 12 to 100."""

    k: int = 64
    zero_at_teacher = True
    listed_forms = (core.TopK,)

    def check(self) -> None:
        super().check()
        check_least("k", self.k, 1)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(lambda s, t: top_k(s, t, self.k), student, teacher, batch=batch)
