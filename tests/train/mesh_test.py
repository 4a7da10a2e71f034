"""Meshes, and batches that they share."""

import pytest

from jaxdistill.errors import UserError
from jaxdistill.train import mesh


def test_mesh_sizes():
    assert dict(mesh.make_mesh({"data": -1}).shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert dict(mesh.make_mesh({"data": -1, "fsdp": 4}).shape) == {"data": 2, "fsdp": 4, "tensor": 1}
    with pytest.raises(UserError, match="does not fit 8 devices"):
        mesh.make_mesh({"data": 3})
    with pytest.raises(UserError, match="mesh axis must be an existing name, got 'fdsp'. Did you mean 'fsdp'"):
        mesh.make_mesh({"fdsp": 2})


@pytest.mark.parametrize(
    ("batch", "accumulate", "processes", "message"),
    [
        (12, 1, 1, "batch must be a multiple of .* = 8, got 12. Take 8 or 16"),
        (16, 4, 1, "= 32, got 16. Take 32 or 64"),
        (16, 3, 1, "accumulate = 3"),
        (0, 1, 1, "batch must be a multiple of accumulate = 1, got 0"),
        (8, 1, 3, "multiple of the number of processes, 3, got 8"),
    ],
)
def test_a_batch_that_cannot_be_shared(batch, accumulate, processes, message):
    with pytest.raises(UserError, match=message):
        mesh.check_batch(mesh.make_mesh({"data": -1}), batch, accumulate, processes)
