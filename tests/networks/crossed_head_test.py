"""The crossed head: the student's features through the rest of the teacher's head, which no gradient moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.conformance import sources
from jaxdistill.errors import UserError
from jaxdistill.models.convnext import ConvNeXt
from jaxdistill.models.fcos import FCOS
from jaxdistill.networks import CrossedHead, Frozen, Trained, in_order, run

ENCODER = ConvNeXt(0, depths=(1, 1), widths=(4, 6), patch=2)


def detector(width: int, tower: int) -> FCOS:
    return FCOS(3, encoder=ENCODER, extra=0, width=width, tower=tower, groups=2)


def cross(student_width: int, crossing: int = -1):
    networks = {"student": Trained(detector(student_width, 2)), "teacher": Frozen(detector(4, 2))}
    networks = in_order(networks | {"crossed": CrossedHead("student", crossing=crossing)})
    batch = {"image": jax.random.normal(jax.random.key(3), (2, 8, 8, 3)), "mask": jnp.ones(2), "index": jnp.arange(2)}

    @jax.jit
    def evaluate():
        variables = sources.init_variables(networks, batch)

        def loss(params):
            merged = variables | {name: {**variables[name], "params": tree} for name, tree in params.items()}
            outputs, _ = run(networks, merged, batch, None)
            return jnp.sum(outputs["crossed"].logits ** 2) + jnp.sum(outputs["crossed"].tap("distances")), outputs

        params = {name: tree["params"] for name, tree in variables.items() if "params" in tree}
        gradient, outputs = jax.grad(loss, has_aux=True)(params)
        return variables, gradient, outputs

    return evaluate()


def size(tree) -> float:
    return float(sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(tree)))


@pytest.mark.slow
def test_its_output_is_that_of_the_teachers_head_for_the_students_features():
    variables, gradient, outputs = cross(4)
    taps = outputs["student"].taps
    maps = [{level: taps[f"{level}/{branch}1"] for level in ("P1", "P2")} for branch in ("class", "box")]
    head = detector(4, 2).make_head()
    expected = head.apply({"params": variables["teacher"]["params"]["head"]}, *maps, (8, 8), start=1)
    np.testing.assert_allclose(outputs["crossed"].logits, expected.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["crossed"].tap("boxes"), expected.tap("boxes"), rtol=1e-5, atol=1e-6)
    assert variables["crossed"] == {}
    assert size(gradient["teacher"]) == 0
    head_gradient = gradient["student"]["head"]
    assert size(head_gradient["class_conv0"]) > 0
    assert size((head_gradient["class_conv1"], head_gradient["logits"])) == 0


@pytest.mark.slow
def test_other_channels_are_aligned_by_a_learned_convolution():
    variables, gradient, outputs = cross(6)
    assert variables["crossed"]["params"]["class"]["kernel"].shape == (1, 1, 6, 4)
    assert core.count(gradient["crossed"]) == 2 * (6 * 4 + 4)
    assert size(gradient["crossed"]["box"]) > 0
    assert outputs["crossed"].logits.shape == outputs["teacher"].logits.shape


def test_networks_that_are_no_detectors_and_places_outside_of_the_towers_are_refused():
    networks = {"student": Trained(ENCODER), "teacher": Frozen(detector(4, 2))}
    with pytest.raises(UserError, match="must be detectors such as model 'fcos', got 'student'"):
        in_order(networks | {"crossed": CrossedHead("student")})
    networks["student"] = Trained(detector(4, 2))
    with pytest.raises(UserError, match="crossing must be in"):
        in_order(networks | {"crossed": CrossedHead("student", crossing=3)})
