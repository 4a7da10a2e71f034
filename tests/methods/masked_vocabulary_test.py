"""Every method of logits where classes are ruled out by a logit of -inf, as a masked vocabulary's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.core import Output
from jaxdistill.modules.logits_method import LogitsMethod

METHODS = [name for name in registry.names("method") if issubclass(registry.find("method", name), LogitsMethod)]
MEANS_OVER_CLASSES = ("dist", "mlkd", "ranking")
OTHER_BY_NUMBER_OF_CLASSES = ("multi_label", "teacher_free")
STUDENT, TEACHER = jax.random.normal(jax.random.key(0), (2, 4, 5))
BATCH = {
    "label": jnp.array([0, 2, 1, 4]),
    "mask": jnp.ones(4),
    "valid": jnp.ones(4),
    "index": jnp.arange(4),
    "image": jnp.zeros((4, 1)),
}


def fill(logits):
    return jnp.pad(logits, [(0, 0), (1, 1)], constant_values=-jnp.inf)


def evaluate(name, student, teacher, label=BATCH["label"]):
    """The values, and the student's gradient."""
    method, data = registry.find("method", name)(), BATCH | {"label": label}
    if name == "multi_label":
        data["label"] = jax.nn.one_hot(label, student.shape[-1])
    teacher = Output(teacher) if method.needs_teacher else None
    variables = method.init(jax.random.key(0), Output(student), teacher, data)

    def loss(logits):
        values = method.apply(variables, Output(logits), teacher, data, mutable=[], rngs={"method": jax.random.key(1)})
        return core.mean(values[0], method.valid(data)), values[0]

    (_, values), gradient = jax.value_and_grad(loss, has_aux=True)(student)
    return values, gradient


QUICK = ("cross_entropy", "forward_kl", "gkd", "kd", "top_k")
CASES = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in METHODS]


@pytest.mark.slow
@pytest.mark.parametrize("name", [case for case in CASES if case.values[0] not in OTHER_BY_NUMBER_OF_CLASSES])
def test_classes_that_both_rule_out_are_none(name):
    values, gradient = evaluate(name, fill(STUDENT), fill(TEACHER), BATCH["label"] + 1)
    expected, wanted = evaluate(name, STUDENT, TEACHER)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(gradient[:, [0, -1]], 0)
    if name in MEANS_OVER_CLASSES:
        return
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient[:, 1:-1], wanted, rtol=1e-4, atol=1e-6)


INFINITE = {
    "reverse_kl": "the student's probability of a class that the teacher rules out",
    "symmetric_kl": "the same",
    "logit_regression": "the square of an infinite difference",
}


@pytest.mark.parametrize("name", CASES)
def test_classes_that_the_teacher_alone_rules_out(name):
    values, gradient = evaluate(name, STUDENT, TEACHER.at[:, 3].set(-jnp.inf))
    assert jnp.isinf(values).all() if name in INFINITE else np.isfinite(values).all()
    assert np.isfinite(gradient).all() or name == "logit_regression"
