"""Safetensors files: numbers, dtypes, and files that are cut off or contradict themselves."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.pretrained.tensors import read_safetensors, write_safetensors

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(1.5, np.float16),
    "c": np.arange(4).astype(jnp.bfloat16),
    "d": np.zeros((0, 3), np.float64),
}


@pytest.fixture
def path(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", ARRAYS)
    return tmp_path / "model.safetensors"


def rewrite(path, change, keep=None):
    """Replaces the header of a file by `change(header)`, or its bytes by the first ones."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(change(header)).encode()
    path.write_bytes((len(text).to_bytes(8, "little") + text + content[8 + length :])[:keep])


def test_tensors_come_back_bit_for_bit_and_keep_their_dtypes(path):
    tensors = read_safetensors(path)
    assert sorted(tensors) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert tensors[name].shape == array.shape
        np.testing.assert_array_equal(tensors[name].open(), array)
        assert tensors[name].open().dtype == array.dtype


def test_the_library_reads_the_same(path):
    library = pytest.importorskip("safetensors", reason="safetensors is not installed")
    with library.safe_open(path, "numpy") as file:
        assert sorted(file.keys()) == sorted(ARRAYS)
        np.testing.assert_array_equal(file.get_tensor("b"), ARRAYS["b"])


def test_tensors_of_any_order_are_found(path):
    content = path.read_bytes()
    rewrite(path, lambda header: dict(reversed(header.items())))
    assert len(path.read_bytes()) != 0
    np.testing.assert_array_equal(read_safetensors(path)["b"].open(), ARRAYS["b"])
    assert content != b""


def shifted(header):
    start, stop = header["b"]["data_offsets"]
    return header | {"b": header["b"] | {"data_offsets": [start + 4, stop + 4]}}


DAMAGES = {
    "half of the numbers": (lambda header: header, -8, "bytes of numbers where its header lists"),
    "no header": (lambda header: header, 6, "too few for a header"),
    "half of the header": (lambda header: header, 40, "too few for a header"),
    "a gap": (shifted, None, "tensor 'b' at byte 6 where byte 2 is the next"),
    "another shape": (
        lambda h: h | {"b": h["b"] | {"shape": [2, 4]}},
        None,
        r"tensor 'b' of 24 bytes for F32 \[2, 4\]",
    ),
    "no places": (lambda h: h | {"b": {"dtype": "F32", "shape": [2, 3]}}, None, "no description of tensors"),
    "a list": (lambda h: [1], None, "no description of tensors"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_refused_with_the_place(path, name):
    change, keep, message = DAMAGES[name]
    rewrite(path, change, keep)
    with pytest.raises(UserError, match=f"model.safetensors must be a whole safetensors file, got .*{message}"):
        read_safetensors(path)


def test_integers_may_be_in_a_file_and_are_no_weights(path):
    rewrite(path, lambda header: header | {"b": header["b"] | {"dtype": "I32"}})
    assert not read_safetensors(path)["b"].is_weight
    assert read_safetensors(path)["c"].is_weight
