"""Activations that stay split over the devices of a mesh as the batch is."""

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.networks.batch_sharding import split_rows
from jaxdistill.train import mesh


@pytest.mark.parametrize(
    ("shape", "rows", "is_split"), [((16, 3), 16, True), ((12, 3), 12, False), ((3, 16), 16, False)]
)
def test_rows_that_the_devices_divide_are_split(shape, rows, is_split):
    with jax.set_mesh(mesh.make_mesh({"data": 4, "fsdp": 2})):
        x = jax.jit(lambda: split_rows(jnp.ones(shape), rows))()
    assert x.sharding.is_fully_replicated != is_split
    if is_split:
        assert x.sharding.spec[0] == ("data", "fsdp")


def test_other_values_pass_unchanged():
    x = jnp.ones((16, 2))
    assert split_rows(x, 16) is x
    assert split_rows("text", 16) == "text"
