"""Losses of maps, of pixels, and of Tunix's stacked features."""

import jax
import jax.numpy as jnp

from golden_tables import Row
from golden_tables.adapted import numbered
from jaxdistill.losses import distance, spatial
from jaxdistill.methods.cross_entropy import cross_entropy
from jaxdistill.methods.cwd import cwd
from jaxdistill.methods.fitnet import fitnet
from jaxdistill.methods.kd import kd
from jaxdistill.methods.pearson_kd import pearson_kd


def channels(x, tau, loss_weight):
    return loss_weight * torchdistiller_channel(x, tau)


def torchdistiller_channel(x, temperature):
    return jnp.mean(cwd(x["student_0"], x["teacher_0"], temperature))


def torchdistiller_spatial(x, temperature):
    """Its name for KD at every pixel."""
    return jnp.mean(kd(x["student_0"], x["teacher_0"], temperature))


def torchdistiller_means(x, temperature):
    """The mean squared difference of the mean outputs, without a temperature."""
    return jnp.mean(fitnet(*(spatial.average_pool(x[f"{side}_0"], (1, 1)) for side in ("student", "teacher"))))


def pearson(x, loss_weight, resize_stu):
    total = 0
    for student, teacher in zip(numbered(x, "student"), numbered(x, "teacher"), strict=True):
        if resize_stu:
            student = spatial.resize(student, teacher.shape[1:3])
        else:
            teacher = spatial.resize(teacher, student.shape[1:3])
        total += jnp.mean(pearson_kd(student, teacher, jnp.ones(len(student))))
    return loss_weight * total


def with_labels(x, alpha, features):
    task = jnp.mean(cross_entropy(x["student_logits"], x["labels_onehot"], 0.0))
    return alpha * features + (1 - alpha) * task


def tunix_pooling(x, alpha, axis):
    """Averages the teacher's stack over layers and places, by windows of one size that may overlap."""
    student, teacher = x["student_features"], x["teacher_features"]
    strides = tuple(have // want for have, want in zip(teacher.shape, student.shape, strict=True))
    sizes = zip(teacher.shape, student.shape, strides, strict=True)
    window = tuple(have - (want - 1) * stride for have, want, stride in sizes)
    pooled = jax.lax.reduce_window(teacher, 0.0, jax.lax.add, window, strides, "VALID") / jnp.prod(jnp.array(window))
    return with_labels(x, alpha, jnp.mean(1 - distance.cosine(student, pooled, axis)))


def tunix_projection(x, alpha):
    """One linear map of all layers, examples and positions at once."""
    student, teacher = x["student_features"], x["teacher_features"]
    projected = jnp.tensordot(student, x["projection.kernel"], student.ndim) + x["projection.bias"]
    return with_labels(x, alpha, jnp.mean(fitnet(projected, teacher)))


TABLE = {
    ("cwd", "mmrazor"): Row(channels),
    ("cwd", "torchdistiller_channel"): Row(torchdistiller_channel),
    ("cwd", "torchdistiller_spatial"): Row(torchdistiller_spatial),
    ("cwd", "torchdistiller_channel_mean_mse"): Row(torchdistiller_means, "another loss: the mean of each channel"),
    ("pkd_pearson", "mmrazor"): Row(pearson),
    ("tunix_feature_pooling", "tunix"): Row(
        tunix_pooling, "matches stacked layers by pooling them with each other, which no paper describes"
    ),
    ("tunix_feature_projection", "tunix"): Row(
        tunix_projection, "its linear map mixes the examples of a batch, whose size it fixes"
    ),
}
