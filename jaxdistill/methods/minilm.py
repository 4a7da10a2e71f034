"""MiniLM: deep self-attention distillation.

Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
NeurIPS 2020, https://arxiv.org/abs/2002.10957

    loss = 1 / (heads l) sum_(h, i) [ KL(A^t_hi || A^s_hi) + KL(R^t_hi || R^s_hi) ],    A = softmax(scores),
           R = softmax(V V^T / sqrt(width of a head))

for the last layer's attention distributions A and value relations R: one value per example of l tokens i. Widths may
differ, numbers of heads may not. For a much smaller student the paper trains an assistant first: two runs, or two
stages.

Elsewhere: the authors published no training code. Bloomberg's minilmv2.bb gives the same as its relations query-key and
value-value with as many relation heads as there are heads.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, precise
from jaxdistill.errors import UserError
from jaxdistill.losses import attention, token
from jaxdistill.modules import layer_mapping


def last_pair(layers: str, student: Output, teacher: Output) -> tuple[str, str]:
    """Returns the names of the student's and the teacher's block in the last pair of `layers`."""
    return layer_mapping.pairs(layers, student.taps, teacher.taps)[-1]


def check_one_pair(layers: str) -> None:
    """Raises `UserError` if `layers` names several pairs or mixes layers."""
    attention.check_layers(layers)
    if "," in layers:
        raise UserError(f"layers must name one pair, like 'block5=block11', got several: {layers!r}")


class MiniLM(Method):
    """`layers` is a rule for pairs of blocks, of which the last is compared, or one pair, like "block5=block11"."""

    layers: str = "last:block*"
    same_classes = False
    zero_at_teacher = True

    def check(self) -> None:
        check_one_pair(self.layers)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        is_token = token.token_positions(batch)
        sides = list(zip((student, teacher), last_pair(self.layers, student, teacher), strict=True))
        scores = [precise(output.tap(f"{block}/scores")) for output, block in sides]
        values = [precise(output.tap(f"{block}/value")) for output, block in sides]
        relations = [attention.relation(value, value) for value in values]
        return token.mean(attention.kl(*scores, is_token) + attention.kl(*relations, is_token), is_token)
