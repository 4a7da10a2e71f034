"""Top-k distillation with the other classes as one.

Tan, Ren, He, Qin, Zhao, Liu, "Multilingual Neural Machine Translation with Knowledge Distillation", ICLR 2019,
https://arxiv.org/abs/1902.10461 (top-K distillation, which made a cache of the teacher's outputs small)

    loss = T^2 [sum_{k in top} p_k log(p_k / q_k) + p_rest log(p_rest / q_rest)],    p_rest = 1 - sum_{k in top} p_k

p = softmax(z_t / T), q = softmax(z_s / T). With k = the number of classes it is KD; it is never more than KD. k = 8 and
T = 1 are the paper's. The paper renormalises p on the top k and has no rest, so that the student must put there what
the teacher had elsewhere; here the rest is exact, so that the loss is 0 for a student that agrees with its teacher.

Elsewhere: Tunix, MaxText and ModelOpt renormalise both sides on the top k, so that what the student puts outside costs
nothing; EasyDeL and DistillKit's zeros renormalise the teacher's alone, as the paper does.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import topk
from jaxdistill.modules.logits_method import LogitsMethod


def class_wise_top_k(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], k: int, temperature: Scalar
) -> Float[Array, "*n"]:
    """Returns nats."""
    listed = topk.from_logits(precise(teacher) / temperature, k)
    return temperature**2 * topk.kl(listed, precise(student) / temperature)


class ClassWiseTopK(LogitsMethod):
    """`k` is the number of the teacher's classes that are compared one by one; `temperature` divides both logits."""

    k: int = 8
    temperature: Scalar = 1.0
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_least("k", self.k, 1)
        check_positive("temperature", self.temperature)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(
            lambda s, t: class_wise_top_k(s, t, self.k, self.temperature), student, teacher, batch=batch
        )
