"""Jacobian matching: the student's gradient of the label's logit points where its teacher's does.

Srinivas, Fleuret, "Knowledge Transfer with Jacobian Matching", ICML 2018, https://arxiv.org/abs/1803.00443.

    loss = || g_s / ||g_s|| - g_t / ||g_t|| ||^2,    g = d logits_y / d input

summed over the input: one value per example, twice one minus the cosine. A gradient that is 0 points nowhere: its
normalised form is 0. The gradients are the tap `derivative` of two `probe` networks with how="vjp", which is exact;
the student's is differentiated again by the step. Examples without a label have no such logit and do not count.

Elsewhere: KD-Zoo (`sobolev.py`) takes the mean over the input instead of the sum, so its value is smaller by the
number of pixels and channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.losses import distance
from jaxdistill.methods.cross_entropy import labelled
from jaxdistill.modules import layer_mapping


def jacobian(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Returns `[batch]` for gradients `[batch, ...]`."""
    student, teacher = (distance.normalize(x.reshape(len(x), -1)) for x in (student, teacher))
    return jnp.sum((student - teacher) ** 2, -1)


class Jacobian(Method):
    """`layers` are taps of derivatives."""

    layers: str = "derivative"
    needs_labels = True
    zero_at_teacher = True
    domain = "derivative"

    def valid(self, batch):
        return labelled(batch)

    @nn.compact
    def __call__(self, student, teacher, batch):
        return layer_mapping.over(self, student, teacher, lambda s, t, name: jacobian(s, t))
