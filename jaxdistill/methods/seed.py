"""Self-supervised distillation (SEED): the student finds the same neighbours among remembered inputs as its teacher.

Fang, Wang, Wang, Zhang, Yang, Liu, "SEED: Self-supervised Distillation for Visual Representation", ICLR 2021,
https://arxiv.org/abs/2101.04731

    loss = - sum_j p_j log q_j,    p = softmax over j of t . d_j / T_t,    q = softmax over j of s . d_j / T_s

over the teacher's embeddings d of the last `queue` inputs and, as the last of them, of the input itself; all of norm 1.
s is the student's features through a learned head, two linear layers with a ReLU between them, of the teacher's width.
No labels are used. After its loss a batch's embeddings replace the oldest of the queue, which starts at random. The
temperatures and the size of the queue are the paper's, as is the width of 128 of its teacher's own head: of 2048
features such a queue takes half a gigabyte.

Elsewhere: the authors' code has a teacher's temperature of 1e-4, where p is nearly the input itself alone.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError, check_least
from jaxdistill.losses import distance, divergence, queue
from jaxdistill.modules import layer_mapping


def seed(
    student: jax.Array, teacher: jax.Array, kept: jax.Array, student_temperature: float, teacher_temperature: float
) -> jax.Array:
    """Returns `[batch]` nats for embeddings `[batch, width]` and a queue `[size, width]`, all of norm 1."""

    def similarities(x):
        own = jnp.sum(x * teacher, -1, keepdims=True)
        return jnp.concatenate([own, jnp.matmul(x, kept.T, precision="highest")], 1)

    target = jax.nn.softmax(similarities(teacher) / teacher_temperature)
    return divergence.cross_entropy(target, similarities(student) / student_temperature)


class SEED(Method):
    """`queue` is how many embeddings are remembered; the temperatures are T_s and T_t."""

    layers: str = "pooled"
    queue: int = 65_536
    student_temperature: float = 0.2
    teacher_temperature: float = 0.01
    same_classes = False
    needs_whole_batch = True  # a part of the batch would meet a queue that another part has moved

    def check(self):
        check_least("queue", self.queue, 1)
        for name in ("student_temperature", "teacher_temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name}={getattr(self, name)} makes no sense; it is greater than 0 and finite")

    @nn.compact
    def __call__(self, student, teacher, batch):
        return layer_mapping.over(
            self, student, teacher, lambda own, other, name: self.pair(own, other, name, batch["mask"])
        )

    def pair(self, student: jax.Array, teacher: jax.Array, name: str, mask: jax.Array) -> jax.Array:
        """Returns `[batch]` for features `[batch, ...]` of one pair of layers, which has a queue of its own."""
        student, teacher = (x.reshape(x.shape[0], -1) for x in (student, teacher))
        hidden = nn.relu(nn.Dense(student.shape[1], name=f"{name}_hidden")(student))
        own = distance.normalize(nn.Dense(teacher.shape[1], name=f"{name}_out")(hidden))
        other = distance.normalize(teacher)
        kept = self.variable("memory", f"{name}_queue", self.start, teacher.shape[1])
        pushed = self.variable("memory", f"{name}_pushed", lambda: jnp.zeros(1, jnp.int32))
        values = seed(own, other, kept.value[0], self.student_temperature, self.teacher_temperature)
        if not self.is_initializing() and self.is_mutable_collection("memory"):
            kept.value, pushed.value = queue.push(kept.value, pushed.value, other[None], mask[None] > 0)
        return values

    def start(self, width: int) -> jax.Array:
        """A queue of random directions, `[1, queue, width]`."""
        return distance.normalize(jax.random.normal(self.make_rng("params"), (1, self.queue, width)))
