"""Random sampling distillation.

Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025,
https://arxiv.org/abs/2503.16870.

    loss = -H(p) - 1/k sum_j log q(y_j),  y_1 .. y_k drawn from the teacher's p

Over the draws value and gradient are in the mean those of KL(p || q) over all classes, so that `k` tokens of a cache
teach without the bias of the likeliest ones. The teacher's logits may be drawn classes, as a cache of
`store="sampled"` stores them, with its own k; from dense logits they are drawn here, others in each step. A single
value may be below 0. The entropy, which the paper leaves out, has no gradient.

Elsewhere: the authors draw independently, also from p^t with importance weights; here draws are systematic, of the same
mean and a smaller variance.
"""

import math

from jaxtyping import Array, Float

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.errors import check_least
from jaxdistill.modules import drawn_classes
from jaxdistill.modules.drawn_classes import DrawnClasses
from jaxdistill.modules.logits_method import LogitsMethod


class RandomSampling(LogitsMethod):
    """`k` is the number of classes drawn from dense logits."""

    k: int = 16
    listed_forms = (DrawnClasses,)

    def check(self) -> None:
        super().check()
        check_least("k", self.k, 1)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        if not core.lists_all_classes(teacher.logits):
            return self.compare(lambda s, t: drawn_classes.kl(t, s), student, teacher, batch=batch)
        shape = core.prediction_shape(teacher.logits)
        keys = core.example_keys(self.make_rng("method"), batch)
        uniform = drawn_classes.draw_uniform(keys, (math.prod(shape[1:]),)).reshape(shape)

        def loss(student: Array, teacher: Array, uniform: Array) -> Array:
            return drawn_classes.kl(drawn_classes.draw(teacher, uniform, self.k), student)

        return self.compare(loss, student, teacher, uniform, batch=batch)
