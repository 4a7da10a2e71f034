"""Arrays of an `.npz`, mapped if they are large."""

import numpy as np
import pytest

from jaxdistill.data import spilled
from jaxdistill.data.stored_arrays import read_arrays
from jaxdistill.errors import UserError

ARRAYS = {
    "small": np.arange(3),
    "images": np.arange(24_000, dtype=np.uint8).reshape(100, 240),
    "columns": np.asfortranarray(np.linspace(0, 1, 6000).reshape(1000, 6)),
}


def check(path, mapped):
    arrays = read_arrays(str(path), path)
    assert {name: isinstance(array, np.memmap) for name, array in arrays.items()} == dict.fromkeys(ARRAYS, mapped) | {
        "small": False
    }
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].flags.f_contiguous) == (array.dtype, array.flags.f_contiguous)
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_large_arrays_are_mapped(save, tmp_path, monkeypatch):
    save(tmp_path / "a.npz", **ARRAYS)
    check(tmp_path / "a.npz", False)
    monkeypatch.setattr(spilled, "SPILL_FROM", 1000)
    check(tmp_path / "a.npz", True)


def test_a_damaged_array_and_objects_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(spilled, "SPILL_FROM", 100)
    path = tmp_path / "a.npz"
    np.savez(path, **ARRAYS)
    content = bytearray(path.read_bytes())
    content[content.index(ARRAYS["images"].tobytes()) + 999] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="must be an .npz of plain arrays, got Bad CRC-32 for file 'images.npy'. Save"):
        read_arrays("a.npz", path)
    np.savez(path, images=np.array([{}] * 99))
    with pytest.raises(UserError, match="must be an .npz of plain arrays, got pickled objects. Save plain arrays"):
        read_arrays("a.npz", path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match="must be an .npz of named arrays, got one array of float64. Use np.savez"):
        read_arrays("a.npz", path)
