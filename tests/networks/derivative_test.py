"""Derivatives of a network by its input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toys
from jaxdistill.build.networks import build_networks
from jaxdistill.config.members import NetworkConfig
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.methods.sobolev import Sobolev
from jaxdistill.models.mlp import MLP
from jaxdistill.models.vit import ViT
from jaxdistill.networks import Context, Derivative, Ensemble, Frozen, ImageSpec, Trained, in_order
from jaxdistill.train.step import make_step
from source_runs import run_fresh

NET = toys.Net(norm=True)


def derivative(mode, **fields):
    batch = toys.batch(4)
    outputs, variables = run_fresh({"net": Frozen(NET), "slope": Derivative("net", mode, **fields)}, batch)
    return outputs["slope"], functools.partial(NET.apply, variables["net"], train=False), batch


def test_vjp_is_the_gradient_of_the_labels_logit():
    output, net, batch = derivative("vjp")
    for row in range(4):
        x, label = batch["image"][row][None], batch["label"][row]
        expected = jax.grad(lambda x, label=label: net(x).logits[0, label])(x)[0]
        np.testing.assert_allclose(output.tap("derivative")[row], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", ["vjp", "jvp", "difference"])
def test_derivatives_of_a_network_in_training_are_each_examples_own(mode):
    """By the batch's statistics, row 0 would move with the label, or the direction, of row 3."""
    sources = {"net": Trained(NET), "slope": Derivative("net", mode)}
    batch = toys.batch(4)
    changed = batch | {"label": batch["label"].at[3].add(1) % toys.CLASSES, "index": batch["index"].at[3].add(9)}
    before, after = (run_fresh(sources, x, train=True)[0]["slope"].tap("derivative") for x in (batch, changed))
    np.testing.assert_allclose(before[:3], after[:3], rtol=1e-5, atol=1e-7)
    assert not np.allclose(before[3], after[3])


def test_vjp_without_a_label_is_zero():
    batch = toys.batch(4) | {"label": jnp.array([-1, 0, 1, -1])}
    outputs, _ = run_fresh({"net": Frozen(NET), "slope": Derivative("net", "vjp")}, batch)
    size = jnp.sum(outputs["slope"].tap("derivative") ** 2, (1, 2, 3))
    assert (size[jnp.array([0, 3])] == 0).all()
    assert (size[1:3] > 0).all()


def test_jvp_is_the_derivative_along_unit_directions():
    output, net, batch = derivative("jvp", directions=3)
    directions = Derivative("net", "jvp", 3).sample_directions(batch, batch["image"])
    np.testing.assert_allclose(jnp.sum(directions**2, (2, 3, 4)), 1.0, rtol=1e-5)
    for number in range(3):
        _, expected = jax.jvp(lambda x: net(x).logits, (batch["image"],), (directions[:, number],))
        np.testing.assert_allclose(output.tap("derivative")[:, number], expected, rtol=1e-5, atol=1e-7)


class ReverseNet(toys.Net):
    """A network whose derivatives are to be taken in reverse mode."""

    forward_mode = False


def test_a_network_without_forward_mode_has_the_same_derivative():
    batch, net = toys.batch(4), ReverseNet(norm=True)
    outputs, _ = run_fresh({"net": Frozen(net), "slope": Derivative("net", "jvp", directions=3)}, batch)
    expected, _, _ = derivative("jvp", directions=3)
    np.testing.assert_allclose(outputs["slope"].tap("derivative"), expected.tap("derivative"), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_attention_in_blocks_has_derivatives_along_directions():
    batch = toys.batch(4)

    def slope(attention):
        net = ViT(classes=3, patch=2, layers=1, width=8, heads=2, attention=attention)
        sources = {"net": Frozen(net), "slope": Derivative("net", "jvp", directions=2)}
        return run_fresh(sources, batch)[0]["slope"].tap("derivative")

    np.testing.assert_allclose(slope("chunked"), slope("xla"), rtol=1e-4, atol=1e-6)


def test_difference_tends_to_jvp():
    exact, _, _ = derivative("jvp", directions=2)
    near, _, _ = derivative("difference", directions=2, step=1e-3)
    np.testing.assert_allclose(near.tap("derivative"), exact.tap("derivative"), rtol=2e-2, atol=2e-4)


def test_directions_are_a_function_of_the_example_and_shared():
    batch = toys.batch(6)
    order = jnp.array([4, 2, 0, 1, 5, 3])
    moved = {name: value[order] for name, value in batch.items()}
    draw = Derivative("net", "jvp", 2).sample_directions
    np.testing.assert_array_equal(draw(batch, batch["image"])[order], draw(moved, moved["image"]))
    second_view = batch | {"view": batch["view"] + 1}
    assert not np.allclose(draw(second_view, batch["image"]), draw(batch, batch["image"]))


def test_a_student_learns_its_teachers_derivatives():
    sources = {
        "teacher": Frozen(MLP(toys.CLASSES, (16,))),
        "student": Trained(MLP(toys.CLASSES, (32,))),
        "slope_t": Derivative("teacher", "jvp", 4),
        "slope_s": Derivative("student", "jvp", 4),
    }
    terms = {"sobolev": Term(Sobolev(), "slope_s", "slope_t")}
    batch, tx = toys.batch(16), optax.adam(1e-2)
    state, frozen = toys.start(sources, terms, tx, batch)
    step = jax.jit(make_step(sources, terms, tx))
    losses = []
    for _ in range(60):
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["sobolev"]))
    assert losses[-1] < 0.2 * losses[0]


def test_only_a_network_with_a_module_has_derivatives():
    sources = {"a": Frozen(NET), "b": Frozen(NET), "both": Ensemble(("a", "b")), "slope": Derivative("both")}
    with pytest.raises(UserError, match=r"networks.slope.of must be a network with weights of its own, got 'both'"):
        in_order(sources)


def test_a_source_that_is_not_bound_raises():
    with pytest.raises(UserError, match="of must be bound to a network, got 'net' alone"):
        Derivative("net")({"borrowed": {}}, toys.batch(4), {}, None)


def build(entries):
    context = Context(3, ImageSpec((4, 4, 1), (0.0,), (1.0,)))
    return build_networks({n: NetworkConfig.parse(entry, f"networks.{n}") for n, entry in entries.items()}, context)


@pytest.mark.parametrize("narrow", [{"quantize": "int8"}, {"dtype": "bfloat16"}])
def test_finite_differences_of_a_network_below_float32_are_refused(narrow):
    teacher = {"source": "frozen", "model": "mlp", "weights": "stage:x"}
    slope = {"source": "derivative", "of": "teacher", "mode": "difference"}
    assert "slope" in build({"teacher": teacher, "slope": slope})
    assert "slope" in build({"teacher": teacher | narrow, "slope": slope | {"mode": "jvp"}})
    with pytest.raises(UserError, match="rounding noise. Take mode='jvp'"):
        build({"teacher": teacher | narrow, "slope": slope})
