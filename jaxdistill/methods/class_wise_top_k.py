"""Top-k distillation: the teacher's k likeliest classes by name, and all the others as one.

Tan, Ren, He, Qin, Zhao, Liu, "Multilingual Neural Machine Translation with Knowledge Distillation", ICLR 2019,
https://arxiv.org/abs/1902.10461 (top-K distillation, which made a cache of the teacher's outputs small)

    loss = T^2 [sum_{k in top} p_k log(p_k / q_k) + p_rest log(p_rest / q_rest)],    p_rest = 1 - sum_{k in top} p_k

p = softmax(z_t / T), q = softmax(z_s / T). With k = the number of classes it is KD; it is never more than KD. k = 8 and
T = 1 are the paper's. The paper renormalises p on the top k and has no rest, which asks the student to put there what
the teacher had elsewhere; here the rest is exact, so that the loss is 0 for a student that agrees with its teacher.

Elsewhere: Tunix, MaxText and ModelOpt renormalise both sides on the top k, so that what the student puts outside costs
nothing; EasyDeL and DistillKit's zeros renormalise the teacher's alone, as the paper does.
"""

import jax

from jaxdistill.core import Method, precise
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import topk


def class_wise_top_k(student: jax.Array, teacher: jax.Array, k: int, temperature: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, classes]`."""
    said = topk.of(precise(teacher) / temperature, k)
    return temperature**2 * topk.kl(said, precise(student) / temperature)


class ClassWiseTopK(Method):
    """`k` classes of the teacher's keep their names; `temperature` divides both logits."""

    k: int = 8
    temperature: float = 1.0
    zero_at_teacher = True

    def check(self):
        check_least("k", self.k, 1)
        check_positive("temperature", self.temperature)

    def __call__(self, student, teacher, batch):
        return class_wise_top_k(student.logits, teacher.logits, self.k, self.temperature)
