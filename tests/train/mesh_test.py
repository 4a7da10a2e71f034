"""Meshes, and batches that they share."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

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
    ("batch", "accumulate", "message"),
    [
        (12, 1, "batch must be a multiple of .* = 8, got 12. Take 8 or 16"),
        (16, 4, "= 32, got 16. Take 32 or 64"),
        (16, 3, "accumulate = 3"),
        (0, 1, "batch must be a multiple of accumulate = 1, got 0"),
    ],
)
def test_a_batch_that_cannot_be_shared(batch, accumulate, message):
    with pytest.raises(UserError, match=message):
        mesh.check_batch(mesh.make_mesh({"data": -1}), batch, accumulate)


@dataclasses.dataclass(frozen=True)
class Device:
    """A device of a pod: its number, and the process that it belongs to."""

    id: int
    process_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"


def pod(shape, order):
    """A mesh of devices of the processes `order`, in the order of the mesh."""
    devices = [Device(number, process) for number, process in enumerate(order)]
    return Mesh(np.array(devices, dtype=object).reshape(shape), mesh.AXES)


@pytest.mark.parametrize(
    ("shape", "order", "expected"),
    [
        ((4, 1, 1), [0, 0, 1, 1], [(0, 1), (2, 3)]),
        ((1, 4, 1), [0, 1, 2, 3], [(0,), (1,), (2,), (3,)]),
        ((1, 1, 2), [0, 1], [(0,), (0,)]),  # the axis "tensor" over both: each reads the whole batch
        ((2, 1, 2), [0, 1, 2, 3], [(0,), (0,), (1,), (1,)]),
        ((2, 2, 2), [0, 0, 0, 0, 1, 1, 1, 1], [(0, 1), (2, 3)]),
        ((4, 1, 1), [1, 0, 0, 1], [(1, 2), (0, 3)]),  # ordered by topology, not by process
        ((3, 1, 4), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], [(0,), (0, 1), (1, 2), (2,)]),
    ],
)
def test_a_process_reads_the_blocks_that_its_devices_hold(shape, order, expected):
    devices = pod(shape, order)
    assert [mesh.process_blocks(devices, process) for process in range(max(order) + 1)] == expected


@pytest.mark.parametrize("leading", [0, 1])
def test_blocks_of_this_process_are_put_where_their_rows_belong(leading):
    rows = np.arange(48).reshape(3, 16) if leading else np.arange(48).reshape(16, 3)
    devices = mesh.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    array = mesh.put(devices, {"x": rows}, leading)["x"]
    np.testing.assert_array_equal(array, rows)
    assert array.sharding.is_equivalent_to(mesh.over_rows(devices, leading), 2)


def test_the_shape_of_a_batch_does_not_depend_on_the_blocks_of_this_process(monkeypatch):
    """Processes may have 1 and 2 of 3 blocks; they must evaluate a split in the same pieces."""
    devices = mesh.make_mesh({"data": 3}, jax.devices()[:3])
    for blocks in ((0,), (0, 1), (0, 1, 2)):
        monkeypatch.setattr(mesh, "process_blocks", lambda _, blocks=blocks: blocks)
        local = {"label": np.zeros((5, 4 * len(blocks)), np.int32)}
        assert mesh.batch_structs(devices, local, leading=1)["label"].shape == (5, 12)
