"""FCOS: strides, locations and boxes by hand, and torchvision's network with the same weights (torchvision_live)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.losses import boxes
from jaxdistill.models import fcos
from jaxdistill.models.convnext import ConvNeXt

ENCODER = ConvNeXt(0, depths=(1, 1), widths=(8, 12), patch=2)
SMALL = fcos.FCOS(3, encoder=ENCODER, extra=1, width=4, tower=1, groups=2, bins=3)


def test_strides_are_powers_of_2_also_for_sides_that_they_do_not_divide():
    assert fcos.level_strides((32, 48), [(8, 12), (4, 6), (2, 3)]) == [4, 8, 16]
    assert fcos.level_strides((75, 90), [(10, 12), (5, 6), (3, 3), (2, 2), (1, 1)]) == [8, 16, 32, 64, 128]
    assert fcos.level_strides((8, 8), [(1, 1), (1, 1)]) == [8, 16]


@pytest.mark.parametrize("maps", [[(4, 4), (4, 4)], [(5, 4)], [(2, 2), (4, 4)]])
def test_maps_of_other_sizes_are_refused(maps):
    with pytest.raises(UserError, match="levels must be maps of which each has half of the places"):
        fcos.level_strides((16, 16), maps)


def test_locations_are_the_centres_of_places():
    found = fcos.make_locations((8, 16), [(2, 4), (1, 2)], [4, 8])
    expected = [(y, x, 4, 4) for y in (2, 6) for x in (2, 6, 10, 14)] + [(4, x, 8, 8) for x in (4, 12)]
    np.testing.assert_allclose(found, np.array(expected) / [8, 16, 8, 16])


def test_boxes_have_the_distances_that_they_are_decoded_from():
    grid = jnp.array(fcos.make_locations((8, 16), [(2, 4)], [4]))
    distances = jnp.array(np.random.default_rng(0).uniform(0, 3, (2, 8, 4)), jnp.float32)
    decoded = fcos.decode(grid, distances)
    np.testing.assert_allclose(boxes.distances(jnp.stack([grid] * 2), decoded), distances, rtol=1e-4, atol=1e-5)


def test_taps_have_the_shapes_of_the_docstring():
    """8 x 12 pixels: 4 x 6, 2 x 3 and 1 x 2 places."""
    shapes = jax.eval_shape(lambda: SMALL.init_with_output(jax.random.key(0), jnp.zeros((2, 8, 12, 3))))[0]
    assert shapes.logits.shape == (2, 32, 3)
    found = {name: tap.shape for name, tap in shapes.taps.items() if name in ("P1", "P2", "P3", "P2/class1", "P3/box1")}
    assert found == {
        "P1": (2, 4, 6, 4),
        "P2": (2, 2, 3, 4),
        "P3": (2, 1, 2, 4),
        "P2/class1": (2, 2, 3, 4),
        "P3/box1": (2, 1, 2, 4),
    }
    predictions = {"locations": (4,), "distances": (4,), "boxes": (4,), "centerness": (), "edges": (4, 4)}
    assert {name: shapes.taps[name].shape for name in predictions} == {
        name: (2, 32, *shape) for name, shape in predictions.items()
    }


def test_a_head_that_begins_within_its_towers_continues_them():
    x = jax.random.normal(jax.random.key(1), (1, 8, 8, 3))

    @jax.jit
    def run():
        variables = SMALL.init(jax.random.key(0), x)
        whole = SMALL.apply(variables, x)
        maps = [{level: whole.taps[f"{level}/{name}1"] for level in ("P1", "P2", "P3")} for name in ("class", "box")]
        rest = SMALL.make_head().apply({"params": variables["params"]["head"]}, *maps, (8, 8), start=1)
        return whole, rest

    whole, rest = run()
    np.testing.assert_allclose(rest.logits, whole.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rest.tap("boxes"), whole.tap("boxes"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.nn.sigmoid(whole.logits), fcos.PRIOR, rtol=0.2)
    edges = np.asarray(jax.nn.softmax(whole.tap("edges")))
    np.testing.assert_allclose(whole.tap("distances"), edges @ np.arange(4), rtol=1e-5)


def test_groups_must_divide_the_width():
    with pytest.raises(UserError, match="groups must divide width=6, got 4"):
        fcos.FCOS(3, width=6, groups=4)
