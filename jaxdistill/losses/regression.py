"""Predictive distributions of a number: a Gaussian by mean and log variance, or a set of quantiles.

The last axis of a network's output holds `[mean, log variance]` of a Gaussian, or the quantiles of the levels
`(i - 1/2) / count`, i = 1 to count. All functions compute in at least float32.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdistill.core import precise

LOG_VARIANCE = 20.0
"""Bound of the log variance on either side: beyond it the exponential of a float32 difference could overflow."""


def gaussian(output: Float[Array, "*n 2"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Returns the mean and the log variance, which is bounded by `LOG_VARIANCE`."""
    output = precise(output)
    return output[..., 0], jnp.clip(output[..., 1], -LOG_VARIANCE, LOG_VARIANCE)


def gaussian_nll(output: Float[Array, "*n 2"], target: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns - log N(target; mean, variance) in nats."""
    mean, log_variance = gaussian(output)
    error = precise(target) - mean
    return (jnp.log(2 * jnp.pi) + log_variance + error**2 * jnp.exp(-log_variance)) / 2


def gaussian_kl(teacher: Float[Array, "*n 2"], student: Float[Array, "*n 2"]) -> Float[Array, "*n"]:
    """Returns KL(teacher || student) of two Gaussians in nats; 0, with a gradient of 0, for equal ones."""
    (teacher_mean, teacher_log), (student_mean, student_log) = gaussian(teacher), gaussian(student)
    difference = teacher_log - student_log
    shift = (teacher_mean - student_mean) ** 2 * jnp.exp(-student_log)
    return (jnp.expm1(difference) - difference + shift) / 2


def levels(count: int) -> np.ndarray:
    """Returns the levels of quantiles, the midpoints of `count` equal intervals of [0, 1], float32 `[count]`."""
    return ((np.arange(count) + 0.5) / count).astype(np.float32)


def pinball(quantiles: Float[Array, "*n count"], target: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the mean over levels t of max(t u, (t - 1) u), u the target minus the quantile."""
    quantiles = precise(quantiles)
    return jnp.mean(_tilted(precise(target)[..., None] - quantiles, quantiles.ndim - 1), -1)


def quantile_pinball(teacher: Float[Array, "*n many"], student: Float[Array, "*n count"]) -> Float[Array, "*n"]:
    """Returns the mean of the pinball losses of the student's quantiles with each of the teacher's as a target."""
    teacher, student = precise(teacher), precise(student)
    difference = teacher[..., None, :] - student[..., :, None]
    return jnp.mean(_tilted(difference, difference.ndim - 2), (-2, -1))


def _tilted(difference: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Returns max(t u, (t - 1) u) of differences u, whose levels t go along an axis."""
    others = [number for number in range(difference.ndim) if number != axis]
    level = np.expand_dims(levels(difference.shape[axis]), others)
    return jnp.maximum(level * difference, (level - 1) * difference)


def mean_of(output: Float[Array, "*n count"], form: str) -> Float[Array, "*n"]:
    """Returns the mean of the distribution of a form, "gaussian" or "quantiles"."""
    return gaussian(output)[0] if form == "gaussian" else jnp.mean(precise(output), -1)


def median_of(output: Float[Array, "*n count"], form: str) -> Float[Array, "*n"]:
    """Returns the median of the distribution of a form, "gaussian" or "quantiles"."""
    return gaussian(output)[0] if form == "gaussian" else jnp.median(precise(output), -1)
