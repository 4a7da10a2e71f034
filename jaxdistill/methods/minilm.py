"""MiniLM: the last layer's attention distributions, and how its values relate to each other.

Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
NeurIPS 2020, https://arxiv.org/abs/2002.10957

    loss = 1 / (heads l) sum_(h, i) [ KL(A^t_hi || A^s_hi) + KL(R^t_hi || R^s_hi) ],    A = softmax(scores),
           R = softmax(V V^T / sqrt(width of a head))

one value per example of l tokens, i among them. Widths may differ, numbers of heads may not. Where student and teacher
differ much the paper puts an assistant between them: two runs, or two stages.

Elsewhere: the authors published no training code. Bloomberg's minilmv2.bb gives the same as its relations query-key and
value-value with as many relation heads as there are heads.
"""

from jaxdistill.core import Method, precise
from jaxdistill.errors import UserError
from jaxdistill.losses import attention, token
from jaxdistill.modules import layer_mapping


def blocks(chosen: str, student, teacher) -> tuple[str, str]:
    """Names the one block of the student's and the one of the teacher's: the last pair that `layers` stands for."""
    return layer_mapping.pairs(chosen, student.taps, teacher.taps)[-1]


def check_pair(chosen: str) -> None:
    """Raises `UserError` where `layers` names several pairs or mixes layers."""
    attention.check_layers(chosen)
    if "," in chosen:
        raise UserError(f"layers={chosen!r} names several pairs; one layer is taught, like 'block5=block11'")


class MiniLM(Method):
    """`layers` stands for pairs of blocks, of which the last is taught; or for one, like "block5=block11"."""

    layers: str = "last:block*"
    same_classes = False
    zero_at_teacher = True
    domain = "encoder"

    def check(self):
        check_pair(self.layers)

    def __call__(self, student, teacher, batch):
        there = token.there(batch)
        named = list(zip((student, teacher), blocks(self.layers, student, teacher), strict=True))
        scores = [precise(output.tap(f"{block}/scores")) for output, block in named]
        values = [precise(output.tap(f"{block}/value")) for output, block in named]
        relations = [attention.relation(value, value) for value in values]
        return token.mean(attention.kl(*scores, there) + attention.kl(*relations, there), there)
