"""MiniLMv2: multi-head self-attention relation distillation.

Wang, Bao, Huang, Dong, Wei, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
Transformers", Findings of ACL 2021, https://arxiv.org/abs/2012.15828

    loss = sum_(a, b) 1 / (A_r l) sum_(h, i) KL(R^t_hi || R^s_hi),    R = softmax(a b^T / sqrt(d_r))

one value per example of l tokens i; (a, b) are query-query, key-key and value-value, each joined over the attention
heads and split again into A_r relation heads, whose width d_r may differ between student and teacher. So widths and
numbers of heads may differ. In the paper the student's last layer learns from the teacher's last (of 12) or from one
above the middle (the 21st of BERT-large's 24: `layers="block5=block20"`), with 48 relation heads for base-size and 64
for large teachers; the number must divide both widths, so that no default fits all.

Elsewhere: the authors published no training code; Bloomberg's minilmv2.bb agrees, and has a weight for each relation.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxdistill.core import Batch, Method, Output, precise
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.losses import attention, token
from jaxdistill.methods.minilm import check_one_pair, last_pair

VECTORS = ("query", "key", "value")


Pair = tuple[Float[Array, "batch length _ _"], Float[Array, "batch length _ _"]]


def relation_kl(
    student: Pair, teacher: Pair, is_token: Shaped[Array, "batch length"], heads: int
) -> Float[Array, " batch"]:
    """Compares one relation, in nats.

    Args:
        student: two of query, key and value, `[batch, length, heads, width]` each.
        teacher: the same two, of any number of heads and any width.
        is_token: above 0 for tokens.
        heads: number of relation heads.
    """
    relations = [attention.relation(*(attention.split_heads(x, heads) for x in pair)) for pair in (student, teacher)]
    return token.mean(attention.kl(*relations, is_token), is_token)


class MiniLMv2(Method):
    """`relations` are compared; `relation_heads` is their number of heads, 0 for the teacher's.

    `layers` is a rule for pairs of blocks, of which the last is compared, or one pair, like "block5=block20".
    """

    relations: str = "query-query,key-key,value-value"
    relation_heads: int = 0
    layers: str = "last:block*"
    same_classes = False
    zero_at_teacher = True

    def check(self) -> None:
        check_one_pair(self.layers)
        check_least("relation_heads", self.relation_heads, 0)
        for pair in self._pairs():
            if len(pair) != 2:
                raise UserError(f"relations must be pairs like 'query-query,query-key', got {self.relations!r}")
            for name in pair:
                if name not in VECTORS:
                    raise unknown("relations", name, VECTORS, "pairs of vectors of a token")

    def _pairs(self) -> list[tuple[str, ...]]:
        return [tuple(pair.strip().split("-")) for pair in self.relations.split(",")]

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        student_block, teacher_block = last_pair(self.layers, student, teacher)
        is_token = token.token_positions(batch)
        heads = self.relation_heads or teacher.tap(f"{teacher_block}/query").shape[2]
        total = jnp.zeros(())
        for pair in self._pairs():
            student_pair = tuple(precise(student.tap(f"{student_block}/{name}")) for name in pair)
            teacher_pair = tuple(precise(teacher.tap(f"{teacher_block}/{name}")) for name in pair)
            total = total + relation_kl(student_pair, teacher_pair, is_token, heads)
        return total
