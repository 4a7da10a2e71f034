"""The axes that rows are split over."""

import jax
import pytest
from jax.sharding import PartitionSpec as P

from jaxdistill.models.row_axes import row_axes


@pytest.mark.parametrize(("rows", "axes"), [(8, ("data", "fsdp")), (6, None)])
def test_axes_that_divide_the_rows(rows, axes):
    assert row_axes(rows) == ()
    with jax.set_mesh(jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"))):
        assert row_axes(rows) == axes


def test_axes_that_are_split_by_hand_are_left_out():
    seen = []

    def of_a_device(x):
        seen.append(row_axes(len(x)))
        return x

    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        split = jax.shard_map(of_a_device, in_specs=P("data"), out_specs=P("data"), axis_names={"data"})
        jax.jit(split)(jax.numpy.ones(8))
    assert seen[0] == ("fsdp",)
