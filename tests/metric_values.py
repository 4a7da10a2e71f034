"""Values of metrics on logits and labels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core, metrics


@functools.partial(jax.jit, static_argnums=0)
def on_device(metric, output, batch):
    return metric.sums(output, batch, None)


def sums_of(name, logits, label, mask=None):
    mask = np.ones(len(label)) if mask is None else mask
    batch = {"label": jnp.asarray(label, jnp.int32), "mask": jnp.asarray(mask, jnp.float32)}
    sums = on_device(metrics.METRICS[name], core.Output(jnp.asarray(logits, jnp.float32)), batch)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), sums)


def value(name, logits, label, mask=None):
    return metrics.METRICS[name].finish(sums_of(name, logits, label, mask))


def at_confidence(*confidences):
    """Logits of two classes whose first has these probabilities."""
    p = np.asarray(confidences, np.float64)
    return np.log(np.stack([p, 1 - p], -1))


def draw_examples():
    """Returns logits and labels of 64 examples of seven classes."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(64, 7))
    logits[:, 6] = -9.0  # a class that is never predicted,
    label = rng.integers(1, 7, size=64)  # and one that is never a label
    return logits, label
