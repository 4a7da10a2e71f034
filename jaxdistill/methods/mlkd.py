"""Multi-level logit distillation: each prediction, how predictions of a batch resemble each other, and how classes do.

Jin, Wang, Lin, "Multi-Level Logit Distillation", CVPR 2023,
https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html

    loss = sum_T [mean_i T^2 KL(p_i || q_i) + 1/B |P P' - Q Q'|^2 + 1/K |P' P - Q' Q|^2],    T in `temperatures`

P and Q are the B x K matrices of the teacher's and the student's predictions softmax(z / T), p_i and q_i their rows;
the norms are sums of squares. The paper has a weak and a strong view of the images: two terms here, the second between
networks that look again.

The authors' code computes a mask of the examples (and classes) whose teacher is less sure than the median, and means to
teach those alone on the weak view; as it multiplies a number that is averaged already, it only scales. `share` = 0.5
is what was meant; 1, the default, teaches all. `standardize` is Sun et al.'s (2024), before the first of the three
terms only.

Elsewhere: in the authors' code and in logit-standardization-KD the mask does nothing, as said; the strong view's KL at
T = 2 and 6 is the weak view's; and the strong view's second and third terms are computed and dropped.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, precise
from jaxdistill.errors import UserError, check_positive
from jaxdistill.methods.kd import kd
from jaxdistill.methods.logit_standardization import standardize


def _grams(student, teacher, mask, temperature, rows):
    kept = mask[:, None] > 0
    p, q = (jnp.where(kept, jax.nn.softmax(precise(x) / temperature), 0.0) for x in (teacher, student))
    form = "ik,jk->ij" if rows else "ki,kj->ij"
    return (jnp.einsum(form, x, x, precision="highest") for x in (p, q))


def batch_relation(student: jax.Array, teacher: jax.Array, mask: jax.Array, temperature: float) -> jax.Array:
    """Returns sum_j (P P' - Q Q')_ij^2 of each example, `[n]`, for logits `[n, classes]` and a mask `[n]`."""
    theirs, own = _grams(student, teacher, mask, temperature, rows=True)
    return jnp.sum((theirs - own) ** 2, -1)


def class_relation(student: jax.Array, teacher: jax.Array, mask: jax.Array, temperature: float) -> jax.Array:
    """Returns sum_l (P' P - Q' Q)_kl^2 of each class, `[classes]`, for logits `[n, classes]` and a mask `[n]`."""
    theirs, own = _grams(student, teacher, mask, temperature, rows=False)
    return jnp.sum((theirs - own) ** 2, -1)


def least_sure(sureness: jax.Array, mask: jax.Array, share: float) -> jax.Array:
    """Returns 1 for those of the kept `[n]` that are not above their quantile `share`, else 0."""
    bound = jnp.nanquantile(jnp.where(mask > 0, sureness, jnp.nan), share)
    return jax.lax.stop_gradient(((sureness <= bound) & (mask > 0)).astype(sureness.dtype))


class MLKD(Method):
    """`share` of the examples and classes is taught, those of which the teacher is least sure."""

    temperatures: tuple = (2.0, 3.0, 4.0, 5.0, 6.0)
    share: float = 1.0
    standardize: bool = False
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self):
        if not self.temperatures:
            raise UserError("temperatures=() makes no sense; name one at least, like (4.0,)")
        for temperature in self.temperatures:
            check_positive("temperatures", temperature)
        if not 0 < self.share <= 1:
            raise UserError(f"share={self.share} makes no sense; it is more than 0 and at most 1")

    def __call__(self, student, teacher, batch):
        own, other, mask = precise(student.logits), precise(teacher.logits), batch["mask"]
        p = jnp.where(mask[:, None] > 0, jax.nn.softmax(other), 0.0)
        rows = least_sure(jnp.max(p, -1), mask, self.share)
        classes = least_sure(jnp.sum(p, 0), jnp.ones_like(p[0]), self.share)
        scaled = (standardize(own), standardize(other)) if self.standardize else (own, other)

        def at(temperature):
            each = kd(*scaled, temperature) + batch_relation(own, other, mask, temperature)
            return rows * each + jnp.mean(classes * class_relation(own, other, mask, temperature))

        return sum(at(temperature) for temperature in self.temperatures)
