"""Channel-wise distillation: each channel looks at the places that the teacher's looks at.

Shu, Liu, Gao, Yan, Shen, "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021,
https://arxiv.org/abs/2011.13256

    loss = T^2 / C sum_c KL(softmax_i(t_ci / T) || softmax_i(s_ci / T))

with the softmax over the places i of a map: one value per image, the mean over its channels. A channel of the logits is
a class, and `layers="logits"` the paper's better choice, with weight 3; of features the weight is 50. T = 4 throughout.
Where the widths differ, a 1 x 1 convolution gives the student's map the teacher's channels (the paper's), and it is
brought to the teacher's size.

Elsewhere: MMRazor and TorchDistiller agree, but that the second's takes the log of a softmax; its norm "spatial" is a
softmax over classes at each place, which is `kd` here.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError
from jaxdistill.losses import divergence
from jaxdistill.modules import adapters, layer_mapping


def cwd(student: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Returns `[batch]` nats, the mean over channels, for two `[batch, height, width, channels]`."""
    student, teacher = (
        jnp.moveaxis(x.reshape(x.shape[0], -1, x.shape[-1]), 1, -1) / temperature for x in (student, teacher)
    )
    return temperature**2 * jnp.mean(divergence.kl(teacher, student), -1)


class CWD(Method):
    """`temperature` divides both; `layers` are "logits" or taps, or both: "logits,stage3"."""

    layers: str = "logits"
    temperature: float = 4.0
    zero_at_teacher = True
    domain = "dense"

    @property
    def same_classes(self):
        return "logits" in [name.strip() for name in self.layers.split(",")]

    def check(self):
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature={self.temperature} makes no sense; it is greater than 0 and finite")

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            own, other = adapters.to_grid(own), adapters.to_grid(other)
            own = adapters.fit(own, other.shape[1:3])
            own = own if own.shape == other.shape else adapters.match(own, other, name)
            return cwd(own, other, self.temperature)

        student, teacher = (x.replace(taps=dict(x.taps) | {"logits": x.logits}) for x in (student, teacher))
        return layer_mapping.over(self, student, teacher, loss)
