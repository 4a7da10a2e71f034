"""A student whose features are classified by its teacher's classifier."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import toys
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.methods.fitnet import FitNet
from jaxdistill.methods.kd import KD
from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Frozen, ReusedClassifier, Trained
from jaxdistill.train.step import make_step
from source_runs import run_fresh

NET = toys.Net(norm=True)
TEACHER, STUDENT = MLP(toys.CLASSES, (16,)), MLP(toys.CLASSES, (8,))


class Plain(nn.Module):
    channels: int

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.channels, name="map")(x)


READER = ReusedClassifier("student", "pooled", "teacher", projector=Plain)


def test_the_tap_of_the_teacher_is_by_default_the_students():
    assert READER.teacher_tap == "pooled"


def test_the_student_is_classified_by_the_teachers_head():
    sources = {"teacher": Frozen(TEACHER), "student": Trained(STUDENT), "reader": READER}
    outputs, variables = run_fresh(sources, toys.batch(4))
    layer, head = variables["reader"]["params"]["map"], variables["teacher"]["params"]["head"]
    projected = outputs["student"].tap("pooled") @ layer["kernel"] + layer["bias"][None]
    np.testing.assert_allclose(outputs["reader"].tap("projected"), projected, rtol=1e-5)
    np.testing.assert_allclose(outputs["reader"].logits, projected @ head["kernel"] + head["bias"][None], rtol=1e-5)


def test_the_projector_and_the_student_learn_and_the_teacher_does_not():
    sources = {"teacher": Trained(TEACHER), "student": Trained(STUDENT), "reader": READER}
    terms = {"reuse": Term(FitNet(layers="projected=pooled", adapter=False), "reader", "teacher")}
    terms["kd"] = Term(KD(), "reader", "teacher")
    batch, tx = toys.batch(8), optax.sgd(0.1)
    state, frozen = toys.start(sources, terms, tx, batch)
    after, _ = jax.jit(make_step(sources, terms, tx))(state, frozen, batch)
    assert toys.same(after.params["teacher"], state.params["teacher"])
    for name in ("student", "reader"):
        assert not toys.same(after.params[name], state.params[name])


def test_a_teacher_without_a_head_and_taps_of_different_ranks_are_refused():
    sources = {"teacher": Frozen(NET), "student": Trained(NET)}
    with pytest.raises(UserError, match="must have a layer 'head' with a kernel, got 'teacher'"):
        run_fresh(sources | {"reader": READER}, toys.batch(4))
    reader = ReusedClassifier("student", "stage1", "teacher", "pooled", Plain)
    with pytest.raises(UserError, match="must be two maps or two pooled taps, got 'stage1' of 'student'"):
        run_fresh(sources | {"reader": reader}, toys.batch(4))
