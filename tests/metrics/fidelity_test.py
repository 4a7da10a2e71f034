import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core, metrics


def agreement(student, teacher, mask):
    metric = metrics.find("agreement")
    batch = {"mask": jnp.asarray(mask, jnp.float32)}
    outputs = [core.Output(jnp.asarray(logits, jnp.float32)) for logits in (student, teacher)]
    sums = jax.jit(metric.sums)(outputs[0], batch, outputs[1])
    return metric.finish(jax.tree.map(np.float64, sums))


def test_agreement_by_hand_needs_no_labels():
    student = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    teacher = [[9, 8, 7], [0, 1, 0], [1, 0, 0], [2, 1, 0]]
    assert agreement(student, teacher, [1, 1, 1, 1]) == 0.75


def test_agreement_leaves_out_padding():
    assert agreement([[1, 0], [1, 0]], [[1, 0], [0, 1]], [1, 0]) == 1.0


def test_agreement_of_nothing_is_nan():
    assert np.isnan(agreement([[1, 0]], [[1, 0]], [0]))


def test_agreement_says_what_it_needs():
    metric = metrics.find("agreement")
    assert (metric.needs_reference, metric.needs_labels, metric.better) == (True, False, "max")
