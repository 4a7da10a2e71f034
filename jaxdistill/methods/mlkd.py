"""Multi-level logit distillation.

Jin, Wang, Lin, "Multi-Level Logit Distillation", CVPR 2023,
https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html

    loss = sum_T [mean_i T^2 KL(p_i || q_i) + 1/B |P P' - Q Q'|^2 + 1/K |P' P - Q' Q|^2],    T in `temperatures`

P and Q are the B x K matrices of the teacher's and the student's predictions softmax(z / T), p_i and q_i their rows;
the norms are sums of squares. The paper has a weak and a strong view of the images: two terms here, the second between
networks that read the other view.

The authors' code computes a mask of the examples (and classes) on which the teacher is less confident than the median,
to teach those alone on the weak view; as it multiplies a number that is averaged already, it only scales. `share` = 0.5
is the intended effect; 1, the default, teaches all. `standardize` is Sun et al.'s (2024), before the first of the three
terms only.

Elsewhere: in the authors' code and in logit-standardization-KD the mask only scales, as above; the strong view's KL at
T = 2 and 6 is the weak view's; and the strong view's second and third terms are computed and dropped.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import UserError, check_positive
from jaxdistill.methods.kd import kd
from jaxdistill.methods.logit_standardization import standardize
from jaxdistill.modules.logits_method import LogitsMethod


def _grams(
    student: Float[Array, "n classes"],
    teacher: Float[Array, "n classes"],
    mask: Num[Array, " n"],
    temperature: Scalar,
    *,
    form: str,
) -> Iterator[Float[Array, "m m"]]:
    counts = mask[:, None] > 0
    p, q = (jnp.where(counts, jax.nn.softmax(precise(x) / temperature), 0.0) for x in (teacher, student))
    return (jnp.einsum(form, x, x, precision="highest") for x in (p, q))


def batch_relation(
    student: Float[Array, "n classes"],
    teacher: Float[Array, "n classes"],
    mask: Num[Array, " n"],
    temperature: Scalar,
) -> Float[Array, " n"]:
    """Returns sum_j (P P' - Q Q')_ij^2 of each prediction, for logits."""
    of_teacher, of_student = _grams(student, teacher, mask, temperature, form="ik,jk->ij")
    return jnp.sum((of_teacher - of_student) ** 2, -1)


def class_relation(
    student: Float[Array, "n classes"],
    teacher: Float[Array, "n classes"],
    mask: Num[Array, " n"],
    temperature: Scalar,
) -> Float[Array, " classes"]:
    """Returns sum_l (P' P - Q' Q)_kl^2 of each class, for logits."""
    of_teacher, of_student = _grams(student, teacher, mask, temperature, form="ki,kj->ij")
    return jnp.sum((of_teacher - of_student) ** 2, -1)


def least_confident(confidence: Float[Array, " n"], mask: Num[Array, " n"], fraction: float) -> Float[Array, " n"]:
    """Returns 1 for entries of the mask that are not above their quantile `fraction`, else 0."""
    bound = jnp.nanquantile(jnp.where(mask > 0, confidence, jnp.nan), fraction)
    return jax.lax.stop_gradient(((confidence <= bound) & (mask > 0)).astype(confidence.dtype))


class MLKD(LogitsMethod):
    """The `share` of predictions and of classes on which the teacher is least confident is taught."""

    temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0)
    share: float = 1.0
    standardize: bool = False
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        if not self.temperatures:
            raise UserError("temperatures must have at least one entry, got (). Set temperatures=(4.0,).")
        for temperature in self.temperatures:
            check_positive("temperatures", temperature)
        if not 0 < self.share <= 1:
            raise UserError(f"share must be in (0, 1], got {self.share}.")

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        *flat, mask, shape = self.flatten(student, teacher, batch)
        pair = [precise(logits) for logits in flat]
        p = jnp.where(mask[:, None] > 0, jax.nn.softmax(pair[1]), 0.0)
        rows = least_confident(jnp.max(p, -1), mask, self.share)
        classes = least_confident(jnp.sum(p, 0), jnp.ones_like(p[0]), self.share)
        scaled = [standardize(logits) for logits in pair] if self.standardize else pair

        def of_temperature(temperature: float) -> Array:
            values = kd(*scaled, temperature) + batch_relation(*pair, mask, temperature)
            return rows * values + jnp.mean(classes * class_relation(*pair, mask, temperature))

        return sum(of_temperature(temperature) for temperature in self.temperatures).reshape(shape)
