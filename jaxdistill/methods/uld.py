"""Universal logit distillation: across tokenizers, where tokens share neither ids nor places.

Boizard, El Haddad, Hudelot, Colombo, "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for
LLMs", TMLR 2025, https://arxiv.org/abs/2402.12030.

    loss = sum_i |p_(i) - q_(i)|,    p_(i), q_(i) the i-th largest probability of teacher and student

which the paper derives from the Wasserstein distance with one cost for any two tokens; the smaller vocabulary is filled
with zeros. One value per pair of positions: the k-th token of the student's answer with the k-th of the teacher's, as
far as both go. Logits at a position predict the token after it, so the pairs are those one before the answers' tokens.
The paper has T = 1 (no T^2 here: probabilities are compared) and adds 1.5 times this to the cross-entropy.

Where the teacher reads other tokens, the batch has `teacher_token_mask` or `teacher_answer_mask` `[batch, its length]`
(and `teacher_tokens` for the network itself) beside the student's own; the student's answer is where its tokens count.
Without them both read the same tokens.

Elsewhere: the authors' code averages over the tokens of an example and then over examples. TRL's GOLD reads logits AT
the answer's tokens and not one before; DSKD has labels that are shifted already, and adds tokens up. TRL also merges
tokens up to common byte boundaries, and compares tokens of one spelling by a JSD; neither is offered.
"""

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Batch, precise
from jaxdistill.errors import UserError
from jaxdistill.modules.next_token import TemperedNextToken, counted


def uld(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Returns `[*n]`, at most 2, for logits `[*n, vocabulary]` and `[*n, another vocabulary]`."""
    return sorted_distance(jax.nn.softmax(precise(student)), jax.nn.softmax(precise(teacher)))


def sorted_distance(left: jax.Array, right: jax.Array) -> jax.Array:
    """The L1 distance of sorted numbers, `[*n, a]` and `[*n, b]` to `[*n]`; what is shorter is filled with zeros."""
    longest = max(left.shape[-1], right.shape[-1])

    def ranked(x):
        fill = [(0, 0)] * (x.ndim - 1) + [(0, longest - x.shape[-1])]
        return jnp.pad(jnp.sort(x, -1, descending=True), fill)

    return jnp.sum(jnp.abs(ranked(left) - ranked(right)), -1)


def partners(own: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pairs the k-th position that counts in one sequence with the k-th that counts in another.

    Args:
        own: `[batch, length]`, above 0 where a position counts.
        other: `[batch, another length]`, the same.

    Returns:
        place: int `[batch, length]`, the partner's; 0 or any other where there is none.
        paired: bool `[batch, length]`, where there is one.
    """
    rank = jnp.cumsum(own > 0, 1) - 1
    first = jnp.argsort(other <= 0, 1, stable=True)  # the positions that count, in order, before all others
    place = jnp.take_along_axis(first, jnp.clip(rank, 0, other.shape[1] - 1), 1)
    return place, (own > 0) & (rank < jnp.sum(other > 0, 1, keepdims=True))


class ULD(TemperedNextToken):
    """`temperature` divides both logits."""

    same_classes = False
    zero_at_teacher = True

    def valid(self, batch):
        if not _other_tokens(batch):
            return super().valid(batch)
        own = counted(batch)
        return jnp.where(partners(own, counted(batch, "teacher_"))[1], own, 0.0)

    def __call__(self, student, teacher, batch):
        if _other_tokens(batch):
            place, _ = partners(counted(batch), counted(batch, "teacher_"))
            theirs = core.rows(teacher.logits)
            if theirs.shape[1] != counted(batch, "teacher_").shape[1]:
                raise UserError("the teacher's masks in the batch are not as long as what it says")
            moved = jnp.take_along_axis(theirs, place[:, :, None], 1)
            teacher = teacher.replace(logits=core.with_rows(teacher.logits, moved))

        def loss(own, other):
            return uld(precise(own) / self.temperature, precise(other) / self.temperature)

        return self.compare(loss, student, teacher)


def _other_tokens(batch: Batch) -> bool:
    return any(f"teacher_{name}" in batch for name in ("tokens", "token_mask", "answer_mask"))
