"""Top-K distillation: the teacher says its K likeliest next tokens, and how likely all the others are together.

Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025,
https://arxiv.org/abs/2503.16870, which shows that a top-K target without the rest is a biased one.

    loss = sum_(k in K) p_k log(p_k / q_k) + p_rest log(p_rest / q_rest)

K are the teacher's likeliest tokens and "rest" is one more class, all the others: the KL between what both say of these
K + 1 classes, at most the KL over the vocabulary. Both rests are exact, so nothing is renormalised, and what a student
puts outside of K is seen. One value per token. The teacher may say a `core.TopK`, as a cache of its logits has it, with
its own K; from dense logits it is made here. There is no temperature: that of a rest is not known.

Elsewhere: TRL's `add_tail` agrees; without it TRL, Tunix, MaxText and ModelOpt renormalise both sides on K, so that a
student that puts 94 % elsewhere has loss 0; this is not offered. DistillKit's "zero" and EasyDeL renormalise the
teacher alone, which is biased; DistillKit's "symmetric_uniform" agrees at temperature 1, and else tempers the rest as
if it were one token.
"""

import jax

from jaxdistill import core
from jaxdistill.errors import check_least
from jaxdistill.losses import topk
from jaxdistill.modules.next_token import NextToken


def top_k(student: jax.Array, teacher: jax.Array | core.TopK, k: int) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, vocabulary]`; `k` is of dense teachers."""
    return topk.kl(topk.of(teacher, k) if core.lists_all_classes(teacher) else teacher, student)


class TopK(NextToken):
    """`k` classes are taken of a teacher that says dense logits; 64 is no paper's, papers take 12 to 100."""

    k: int = 64
    zero_at_teacher = True
    takes_top_k = True

    def check(self):
        super().check()
        check_least("k", self.k, 1)

    def __call__(self, student, teacher, batch):
        return self.compare(lambda s, t: top_k(s, t, self.k), student, teacher)
