"""Sources that look twice, or through another's eyes: probes, reused classifiers, frozen heads."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toys
from jaxdistill import core, networks
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.methods.fitnet import FitNet
from jaxdistill.methods.sobolev import Sobolev
from jaxdistill.models.mlp import MLP
from jaxdistill.modules.heads import PCA, Linear
from jaxdistill.networks import Derivative, Frozen, Head, ReusedClassifier, Trained
from jaxdistill.train.step import make_step

NET = toys.Net(norm=True)


def said(cast, data, train=False):
    """Runs fresh networks; returns their outputs and their variables by name."""
    state, frozen = toys.start(networks.in_order(cast), {}, optax.sgd(0.1), data)
    known = core.merge_variables(state.params, state.variables, frozen)
    keys = core.fold_in(jax.random.key(0), cast) if train else None
    outputs, _ = networks.run(networks.in_order(cast), known, data, keys)
    return outputs, known


def probed(how, **more):
    data = toys.batch(4)
    cast = {"net": Frozen(NET), "probe": Derivative(Frozen(NET), "net", how, **more)}
    outputs, known = said(cast, data)
    return outputs["probe"], functools.partial(NET.apply, known["net"], train=False), data


def test_vjp_is_the_gradient_of_the_labels_logit():
    output, net, data = probed("vjp")
    for row in range(4):
        one, label = data["image"][row][None], data["label"][row]
        expected = jax.grad(lambda x, label=label: net(x).logits[0, label])(one)[0]
        np.testing.assert_allclose(output.tap("derivative")[row], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("how", ["vjp", "jvp", "difference"])
def test_derivatives_of_a_network_in_training_are_each_examples_own(how):
    """By the batch's statistics, row 0 would move with the label, or the direction, of row 3."""
    cast = {"net": Trained(NET), "probe": Derivative(Trained(NET), "net", how)}
    data = toys.batch(4)
    other = data | {"label": data["label"].at[3].add(1) % toys.CLASSES, "index": data["index"].at[3].add(9)}
    found = [said(cast, batch, train=True)[0]["probe"].tap("derivative") for batch in (data, other)]
    np.testing.assert_allclose(found[0][:3], found[1][:3], rtol=1e-5, atol=1e-7)
    assert not np.allclose(found[0][3], found[1][3])


def test_vjp_without_a_label_is_zero():
    data = toys.batch(4) | {"label": jnp.array([-1, 0, 1, -1])}
    outputs, _ = said({"net": Frozen(NET), "probe": Derivative(Frozen(NET), "net", "vjp")}, data)
    size = jnp.sum(outputs["probe"].tap("derivative") ** 2, (1, 2, 3))
    assert (size[jnp.array([0, 3])] == 0).all()
    assert (size[1:3] > 0).all()


def test_jvp_is_the_derivative_along_unit_directions():
    output, net, data = probed("jvp", directions=3)
    directions = Derivative(Frozen(NET), "net", "jvp", 3)._directions(data, data["image"])
    np.testing.assert_allclose(jnp.sum(directions**2, (2, 3, 4)), 1.0, rtol=1e-5)
    for number in range(3):
        _, expected = jax.jvp(lambda x: net(x).logits, (data["image"],), (directions[:, number],))
        np.testing.assert_allclose(output.tap("derivative")[:, number], expected, rtol=1e-5, atol=1e-7)


def test_difference_tends_to_jvp():
    exact, _, _ = probed("jvp", directions=2)
    near, _, _ = probed("difference", directions=2, step=1e-3)
    np.testing.assert_allclose(near.tap("derivative"), exact.tap("derivative"), rtol=2e-2, atol=2e-4)


def test_directions_are_a_function_of_the_example_and_shared():
    data = toys.batch(6)
    order = jnp.array([4, 2, 0, 1, 5, 3])
    moved = {name: value[order] for name, value in data.items()}
    make = Derivative(Frozen(NET), "net", "jvp", 2)
    np.testing.assert_array_equal(make._directions(data, data["image"])[order], make._directions(moved, moved["image"]))
    again = data | {"view": data["view"] + 1}
    assert not np.allclose(make._directions(again, data["image"]), make._directions(data, data["image"]))


def test_a_student_learns_its_teachers_derivatives():
    teacher, student = MLP(toys.CLASSES, (16,)), MLP(toys.CLASSES, (32,))
    cast = {"teacher": Frozen(teacher), "student": Trained(student)}
    cast["slope_t"] = Derivative(Frozen(teacher), "teacher", "jvp", 4)
    cast["slope_s"] = Derivative(Trained(student), "student", "jvp", 4)
    terms = {"sobolev": Term(Sobolev(), "slope_s", "slope_t")}
    data, tx = toys.batch(16), optax.adam(1e-2)
    state, frozen = toys.start(cast, terms, tx, data)
    step = jax.jit(make_step(cast, terms, tx))
    found = []
    for _ in range(60):
        state, metrics = step(state, frozen, data)
        found.append(float(metrics["sobolev"]))
    assert found[-1] < 0.2 * found[0]


class Plain(nn.Module):
    channels: int

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.channels, name="map")(x)


def test_reuse_reads_the_student_with_the_teachers_classifier():
    teacher, student = MLP(toys.CLASSES, (16,)), MLP(toys.CLASSES, (8,))
    cast = {"teacher": Frozen(teacher), "student": Trained(student)}
    cast["reader"] = ReusedClassifier("student", "pooled", "teacher", "pooled", Plain)
    data = toys.batch(4)
    outputs, known = said(cast, data)
    own, head = known["reader"]["params"]["map"], known["teacher"]["params"]["head"]
    projected = outputs["student"].tap("pooled") @ own["kernel"] + own["bias"][None]
    np.testing.assert_allclose(outputs["reader"].tap("projected"), projected, rtol=1e-5)
    np.testing.assert_allclose(outputs["reader"].logits, projected @ head["kernel"] + head["bias"][None], rtol=1e-5)


def test_reuse_moves_the_projector_and_the_student_and_not_the_teacher():
    teacher, student = MLP(toys.CLASSES, (16,)), MLP(toys.CLASSES, (8,))
    cast = {"teacher": Trained(teacher), "student": Trained(student)}
    cast["reader"] = ReusedClassifier("student", "pooled", "teacher", "pooled", Plain)
    terms = {"reuse": Term(FitNet(layers="projected=pooled", adapter=False), "reader", "teacher")}
    terms["kd"] = Term(__import__("jaxdistill.methods.kd", fromlist=["KD"]).KD(), "reader", "teacher")
    data, tx = toys.batch(8), optax.sgd(0.1)
    state, frozen = toys.start(cast, terms, tx, data)
    after, _ = jax.jit(make_step(cast, terms, tx))(state, frozen, data)
    assert toys.same(after.params["teacher"], state.params["teacher"])
    for name in ("student", "reader"):
        assert not toys.same(after.params[name], state.params[name])


def test_reuse_refuses_a_teacher_without_a_head_and_taps_that_do_not_meet():
    cast = {"teacher": Frozen(NET), "student": Trained(NET)}
    with pytest.raises(UserError, match="no layer named 'head'"):
        said(cast | {"reader": ReusedClassifier("student", "pooled", "teacher", "pooled", Plain)}, toys.batch(4))
    with pytest.raises(UserError, match="name two maps or two pooled taps"):
        said(cast | {"reader": ReusedClassifier("student", "stage1", "teacher", "pooled", Plain)}, toys.batch(4))


def test_a_frozen_exit_is_no_part_of_the_state():
    head = Linear(toys.CLASSES)
    for frozen in (True, False):
        cast = {"net": Frozen(NET), "exit": Head("net", "stage1", head, frozen=frozen)}
        state, rest = toys.start(cast, {}, optax.sgd(0.1), toys.batch(4))
        assert ("exit" in rest) == frozen
        assert ("exit" in state.params) == (not frozen)
        assert cast["exit"].learns == (not frozen)


def test_components_speak_beside_what_their_network_says():
    cast = {"net": Frozen(NET), "reduced": Head("net", "pooled", PCA(2), frozen=True)}
    outputs, _ = said(cast, toys.batch(4))
    np.testing.assert_array_equal(outputs["reduced"].logits, outputs["net"].logits)
    assert set(outputs["reduced"].taps) == {*outputs["net"].taps, "reduced"}
    assert outputs["reduced"].tap("reduced").shape == (4, 2)


def test_components_project_and_refuse_more_than_there_are():
    x = jax.random.normal(jax.random.key(0), (5, 2, 2, 6))
    variables = {"components": {"mean": jnp.arange(6.0), "axes": jnp.eye(6)[:, ::-1][:, :2]}}
    output = PCA(2).apply(variables, x)
    np.testing.assert_allclose(output.tap("reduced"), jnp.stack([x[..., 5] - 5, x[..., 4] - 4], -1), rtol=1e-6)
    with pytest.raises(UserError, match="components=7 makes no sense; the tap is 6 wide"):
        PCA(7).init(jax.random.key(0), x)
