"""Groups of units by hand, and their arrays without some."""

import jax.numpy as jnp
import numpy as np

import structured
from jaxdistill.compress import unit_groups
from jaxdistill.compress.unit_groups import Axis
from jaxdistill.compress.views import unflatten


def test_groups_of_a_decoder_whose_heads_share_keys():
    model, variables = structured.draw("decoder, llama")
    units = unit_groups.find(model.apply, unflatten(variables), model.batch)
    kinds = sorted(group.kind for group in units.groups.values())
    assert kinds == ["head_width", "heads", "hidden", "width"]
    heads = next(group for group in units.groups.values() if group.kind == "heads")
    assert heads.size == 4
    attention = "params/block0/attention/"
    # Two queries for each of four keys; the rows of `out` read the heads from the last axis but one.
    assert set(heads.axes) == {
        Axis(f"{attention}key/kernel", 1, (4,)),
        Axis(f"{attention}value/kernel", 1, (4,)),
        Axis(f"{attention}query/kernel", 1, (4, 2)),
        Axis(f"{attention}out/kernel", 0, (4, 2), reads=-2),
    }
    hidden = next(group for group in units.groups.values() if group.kind == "hidden")
    assert {(axis.array, axis.reads) for axis in hidden.axes} == {
        ("params/block0/feed_forward/gate/kernel", 0),
        ("params/block0/feed_forward/up/kernel", 0),
        ("params/block0/feed_forward/down/kernel", -1),
    }


def test_of_two_factors_of_an_axis_one_is_a_group():
    def grouped(variables, x):
        h = (x @ variables["params"]["first"]["kernel"]).reshape(2, 3, 4)
        h = h - jnp.mean(h, 2, keepdims=True)
        return h.reshape(2, 12) @ variables["params"]["head"]["kernel"]

    variables = {"params": {"first": {"kernel": jnp.ones((5, 12))}, "head": {"kernel": jnp.ones((12, 3))}}}
    (group,) = unit_groups.find(grouped, variables, jnp.ones((2, 5))).groups.values()
    assert (group.size, group.axes[0].sizes, group.axes[0].factor) == (4, (3, 4), 1)


def test_units_of_a_factor_are_taken_and_masked():
    axes = (Axis("params/w", 1, (2, 3), factor=1), Axis("params/b", 0, (3,)))
    group = unit_groups.Group("w:1", "filters", 3, axes)
    units = unit_groups.Units({"w:1": group}, ((24.0, ("w:1",)),))
    arrays = {"params/w": np.arange(12.0).reshape(2, 6), "params/b": np.arange(3.0)}
    small = unit_groups.take(arrays, units, {"w:1": np.array([0, 2])})
    np.testing.assert_array_equal(small["params/w"], [[0, 2, 3, 5], [6, 8, 9, 11]])
    np.testing.assert_array_equal(small["params/b"], [0, 2])
    masked = unit_groups.mask(arrays, units, {"w:1": np.array([0, 2])})
    np.testing.assert_array_equal(masked["params/w"], [[0, 0, 2, 3, 0, 5], [6, 0, 8, 9, 0, 11]])
    assert units.shape("params/w", (2, 6), {"w:1": 2}) == (2, 4)
    assert units.flops({"w:1": 2}) == 16
    np.testing.assert_array_equal(axes[0].units_first(arrays["params/w"])[1], [1, 4, 7, 10])
