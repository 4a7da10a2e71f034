"""Jacobian matching.

Srinivas, Fleuret, "Knowledge Transfer with Jacobian Matching", ICML 2018, https://arxiv.org/abs/1803.00443.

    loss = || g_s / ||g_s|| - g_t / ||g_t|| ||^2,    g = d logits_y / d input

summed over the input: one value per example, twice one minus the cosine of the two gradients. A gradient of 0 has no
direction: its normalised form is 0. The gradients are the tap `derivative` of two networks of source "derivative" with
mode="vjp", which is exact; the step differentiates the student's again. Examples without a label have no such logit and
do not count.

Elsewhere: KD-Zoo (`sobolev.py`) takes the mean over the input instead of the sum, so its value is smaller by the number
of pixels and channels.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.losses import distance
from jaxdistill.modules import layer_mapping
from jaxdistill.modules.logits_method import has_label


def jacobian(student: Float[Array, " batch *shape"], teacher: Float[Array, " batch *shape"]) -> Float[Array, " batch"]:
    """Returns the squared distance of the normalised gradients."""
    student, teacher = (distance.normalize(x.reshape(len(x), -1)) for x in (student, teacher))
    return jnp.sum((student - teacher) ** 2, -1)


class Jacobian(Method):
    """`layers` are taps of derivatives."""

    layers: str = "derivative"
    needs_labels = True
    predictions = ("classes",)
    zero_at_teacher = True

    def valid(self, batch: Batch) -> Float[Array, " batch"]:
        return has_label(batch["label"]) * batch["mask"]

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        return layer_mapping.sum_over_pairs(self, student, teacher, lambda s, t, name: jacobian(s, t))
