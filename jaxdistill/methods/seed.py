"""Self-supervised distillation (SEED).

Fang, Wang, Wang, Zhang, Yang, Liu, "SEED: Self-supervised Distillation for Visual Representation", ICLR 2021,
https://arxiv.org/abs/2101.04731

    loss = - sum_j p_j log q_j,    p = softmax over j of t . d_j / T_t,    q = softmax over j of s . d_j / T_s

over the teacher's embeddings d of the last `queue` inputs and, as the last of them, of the input itself; all of norm 1.
The student's similarities to these match the teacher's. s is the student's features through a learned head, two linear
layers with a ReLU between them, of the teacher's width. No labels are used. After the loss a batch's embeddings replace
the oldest of the queue, which starts at random. The temperatures and the size of the queue are the paper's, as is the
width of 128 of its teacher's own head: with 2048 features such a queue takes half a gigabyte.

Elsewhere: the authors' code has a teacher's temperature of 1e-4, with nearly all of p on the input itself.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import distance, divergence, queue
from jaxdistill.modules import layer_mapping


def seed(
    student: Float[Array, "batch width"],
    teacher: Float[Array, "batch width"],
    stored: Float[Array, "queue width"],
    student_temperature: Scalar,
    teacher_temperature: Scalar,
) -> Float[Array, " batch"]:
    """Returns the cross-entropy of the similarities in nats; all vectors are of norm 1."""

    def similarities(x: Array) -> Array:
        same_input = jnp.sum(x * teacher, -1, keepdims=True)
        return jnp.concatenate([same_input, jnp.matmul(x, stored.T, precision="highest")], 1)

    target = jax.nn.softmax(similarities(teacher) / teacher_temperature)
    return divergence.cross_entropy(target, similarities(student) / student_temperature)


class SEED(Method):
    """`queue` is the number of remembered embeddings; the temperatures are T_s and T_t."""

    layers: str = "pooled"
    queue: int = 65_536
    student_temperature: Scalar = 0.2
    teacher_temperature: Scalar = 0.01
    same_classes = False
    needs_whole_batch = True  # a part of the batch would be compared with a queue updated by another part

    def check(self) -> None:
        check_least("queue", self.queue, 1)
        for name in ("student_temperature", "teacher_temperature"):
            check_positive(name, getattr(self, name))

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        return layer_mapping.sum_over_pairs(
            self, student, teacher, lambda s, t, name: self.compare_pair(s, t, name, batch["mask"])
        )

    def compare_pair(
        self,
        student: Float[Array, " batch *student_shape"],
        teacher: Float[Array, " batch *teacher_shape"],
        name: str,
        mask: Float[Array, " batch"],
    ) -> Float[Array, " batch"]:
        """Compares the features of one pair of layers by the queue of that pair."""
        student, teacher = (x.reshape(x.shape[0], -1) for x in (student, teacher))
        hidden = nn.relu(nn.Dense(student.shape[1], name=f"{name}_hidden")(student))
        embedded = distance.normalize(nn.Dense(teacher.shape[1], name=f"{name}_out")(hidden))
        target = distance.normalize(teacher)
        stored = self.variable("memory", f"{name}_queue", self.draw_queue, teacher.shape[1])
        pushed = self.variable("memory", f"{name}_pushed", lambda: jnp.zeros(1, jnp.int32))
        temperatures = {
            "student_temperature": self.student_temperature,
            "teacher_temperature": self.teacher_temperature,
        }
        values = seed(embedded, target, stored.value[0], **temperatures)
        if not self.is_initializing() and self.is_mutable_collection("memory"):
            stored.value, pushed.value = queue.push(stored.value, pushed.value, target[None], mask[None] > 0)
        return values

    def draw_queue(self, width: int) -> Float[Array, "1 queue {width}"]:
        """Draws a queue of random directions."""
        return distance.normalize(jax.random.normal(self.make_rng("params"), (1, self.queue, width)))
