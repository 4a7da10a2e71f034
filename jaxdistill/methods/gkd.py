"""Generalized knowledge distillation.

Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", ICLR 2024, section
2, https://arxiv.org/abs/2306.13649.

    loss = T^2 [beta KL(P || M) + (1 - beta) KL(Q || M)],    M = beta P + (1 - beta) Q,  P teacher, Q student

a generalized Jensen-Shannon divergence. It vanishes as beta goes to 0 or 1, as beta KL(P || Q) or (1 - beta) KL(Q || P)
to first order; `normalize_beta` divides by beta (1 - beta), so that the ends are these KLs and the gradient's size is
independent of beta. Both are continuous at the ends. The paper tries beta 0.1, 0.5 and 0.9, and T = 1. The tokens, the
student's own or the data's, are a matter of the batch.

Elsewhere: TRL agrees for 0 < beta < 1 but gives the plain KLs at 0 and 1, a jump by a factor of a thousand from beta
0.001 to 0; it has no T^2, and without labels divides by the batch and not by the tokens. DistiLLM's `js_distance` has
the student's share, lam = 1 - beta. DSKD puts 1e-9 inside every logarithm. EasyDeL's beta is reversed and its weights
are not the mixture's: it is equal at beta 0.5 alone. DistillKit has T^2.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_between
from jaxdistill.losses import mixture
from jaxdistill.modules.logits_method import TemperedLogitsMethod


def gkd(
    student: Float[Array, "*n classes"],
    teacher: Float[Array, "*n classes"],
    beta: Scalar,
    temperature: Scalar,
    *,
    normalize_beta: bool = False,
) -> Float[Array, "*n"]:
    """Returns nats."""
    student, teacher = precise(student) / temperature, precise(teacher) / temperature
    return temperature**2 * mixture.jensen_shannon(teacher, student, beta, normalize_beta)


class GKD(TemperedLogitsMethod):
    """`beta` is the fraction of the teacher in the mixture; `normalize_beta` divides by beta (1 - beta)."""

    beta: Scalar = 0.5
    normalize_beta: bool = False
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_between("beta", self.beta, 0, 1)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        def loss(student: Array, teacher: Array) -> Array:
            return gkd(student, teacher, self.beta, self.temperature, normalize_beta=self.normalize_beta)

        return self.compare(loss, student, teacher, batch=batch)
