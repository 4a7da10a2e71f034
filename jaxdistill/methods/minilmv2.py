"""MiniLMv2: how queries, keys and values relate among themselves, over any number of relation heads.

Wang, Bao, Huang, Dong, Wei, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
Transformers", Findings of ACL 2021, https://arxiv.org/abs/2012.15828

    loss = sum_(a, b) 1 / (A_r l) sum_(h, i) KL(R^t_hi || R^s_hi),    R = softmax(a b^T / sqrt(d_r))

one value per example of l tokens, i among them; (a, b) are query-query, key-key and value-value, each joined over the
attention heads and split again into A_r relation heads of width d_r, its own in student and teacher. So neither widths
nor numbers of heads need agree. The paper teaches the student's last layer from the teacher's last (of 12) or from one
above the middle (the 21st of BERT-large's 24: `layers="block5=block20"`), with 48 relation heads for base-size and 64
for large teachers; the number must divide both widths, so that no default fits all.

Elsewhere: the authors published no training code; Bloomberg's minilmv2.bb agrees, and has a weight for each relation.
"""

import jax

from jaxdistill.core import Method, precise
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.losses import attention, token
from jaxdistill.methods.minilm import blocks, check_pair

VECTORS = ("query", "key", "value")


def relation_kl(
    student: tuple[jax.Array, jax.Array], teacher: tuple[jax.Array, jax.Array], there: jax.Array, heads: int
) -> jax.Array:
    """Compares one relation.

    Args:
        student: two of query, key and value, `[batch, length, heads, width]` each.
        teacher: the same two, of any number of heads and any width.
        there: `[batch, length]`, above 0 for tokens.
        heads: of the relation.

    Returns:
        `[batch]`, nats.
    """
    own, theirs = (attention.relation(*(attention.split(x, heads) for x in pair)) for pair in (student, teacher))
    return token.mean(attention.kl(own, theirs, there), there)


class MiniLMv2(Method):
    """`relations` are what is compared; `relation_heads` is their number, 0 for as many as the teacher has heads.

    `layers` stands for pairs of blocks, of which the last is taught; or for one, like "block5=block20".
    """

    relations: str = "query-query,key-key,value-value"
    relation_heads: int = 0
    layers: str = "last:block*"
    same_classes = False
    zero_at_teacher = True
    domain = "encoder"

    def check(self):
        check_pair(self.layers)
        check_least("relation_heads", self.relation_heads, 0)
        for pair in self._pairs():
            if len(pair) != 2:
                raise UserError(f"relations={self.relations!r} makes no sense; it is like 'query-query,query-key'")
            for name in pair:
                if name not in VECTORS:
                    raise unknown("vector of a token", name, VECTORS)

    def _pairs(self):
        return [tuple(pair.strip().split("-")) for pair in self.relations.split(",")]

    def __call__(self, student, teacher, batch):
        own, theirs = blocks(self.layers, student, teacher)
        there = token.there(batch)
        heads = self.relation_heads or teacher.tap(f"{theirs}/query").shape[2]
        total = 0.0
        for pair in self._pairs():
            mine = tuple(precise(student.tap(f"{own}/{name}")) for name in pair)
            other = tuple(precise(teacher.tap(f"{theirs}/{name}")) for name in pair)
            total = total + relation_kl(mine, other, there, heads)
        return total
