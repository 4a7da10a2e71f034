"""Universal logit distillation.

Boizard, El Haddad, Hudelot, Colombo, "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for
LLMs", TMLR 2025, https://arxiv.org/abs/2402.12030.

    loss = sum_i |p_(i) - q_(i)|,    p_(i), q_(i) the i-th largest probability of teacher and student

It compares across tokenizers, whose tokens share neither ids nor positions. The paper derives it from the Wasserstein
distance with one cost for any two tokens; the smaller vocabulary is filled with zeros. There is one value per pair of
positions: the k-th token of the student's answer with the k-th of the teacher's, as far as both go. Logits at a
position predict the token after it, so the pairs are those one before the answers' tokens. The paper has T = 1 (no T^2
here: probabilities are compared) and adds 1.5 times this to the cross-entropy.

If the teacher reads other tokens, the batch has `teacher_valid` `[batch, its length]`, the positions of the teacher
that count, beside the student's `valid`; a task adds it for the fields `teacher_tokens`, `teacher_token_mask` and
`teacher_answer_mask`. Otherwise both read the same tokens.

Elsewhere: the authors' code averages over the tokens of an example and then over examples. TRL's GOLD reads logits AT
the answer's tokens and not one before; DSKD has labels that are shifted already, and adds tokens up. TRL also merges
tokens up to common byte boundaries, and compares tokens of one spelling by a JSD; `alm` is the method for that.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jaxdistill import core
from jaxdistill.core import Batch, Output, precise
from jaxdistill.errors import UserError
from jaxdistill.modules.logits_method import TemperedLogitsMethod
from jaxdistill.modules.next_token import partners


def uld(student: Float[Array, "*n left"], teacher: Float[Array, "*n right"]) -> Float[Array, "*n"]:
    """Returns values of at most 2, for logits over two vocabularies."""
    return sorted_distance(jax.nn.softmax(precise(student)), jax.nn.softmax(precise(teacher)))


def sorted_distance(left: Float[Array, "*n left"], right: Float[Array, "*n right"]) -> Float[Array, "*n"]:
    """Returns the L1 distance of the sorted numbers; the shorter side is filled with zeros."""
    longest = max(left.shape[-1], right.shape[-1])

    def ranked(x: Array) -> Array:
        fill = [(0, 0)] * (x.ndim - 1) + [(0, longest - x.shape[-1])]
        return jnp.pad(jnp.sort(x, -1, descending=True), fill)

    return jnp.sum(jnp.abs(ranked(left) - ranked(right)), -1)


class ULD(TemperedLogitsMethod):
    """`temperature` divides both logits."""

    same_classes = False
    zero_at_teacher = True

    def valid(self, batch: Batch) -> Num[Array, "*m"]:
        valid = super().valid(batch)
        if "teacher_valid" not in batch:
            return valid
        return jnp.where(partners(valid, batch["teacher_valid"])[1], valid, 0.0)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        if "teacher_valid" in batch:
            rows = core.rows(teacher.logits)
            if rows.shape[:2] != batch["teacher_valid"].shape:
                raise UserError(
                    f"teacher_valid must have the shape of the teacher's predictions {rows.shape[:2]}, got"
                    f" {batch['teacher_valid'].shape}. Set masks as long as teacher_tokens."
                )
            position, _ = partners(super().valid(batch), batch["teacher_valid"])
            paired = jnp.take_along_axis(rows, position[:, :, None], 1)
            teacher = teacher.replace(logits=core.with_rows(teacher.logits, paired))

        def loss(student: Array, teacher: Array) -> Array:
            return uld(precise(student) / self.temperature, precise(teacher) / self.temperature)

        return self.compare(loss, student, teacher, batch=batch)
