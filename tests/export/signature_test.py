"""Raw inputs: images, texts and rows of tables become the arrays of a network, or are refused."""

import numpy as np
import pytest

from jaxdistill.data.tables import featurizer
from jaxdistill.data.tables.table import Table
from jaxdistill.errors import UserError
from jaxdistill.export.signature import BYTES, Input, Signature
from tokenizer_files import write_wordpiece

IMAGES = Signature({"image": Input((2, 2, 1), "uint8")})
TOKENS = {name: Input((6,), "int32") for name in ("tokens", "token_mask", "segment")}


def test_images():
    whole = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    assert np.array_equal(IMAGES.arrays(whole)["image"], whole)
    assert np.array_equal(IMAGES.arrays(whole / 255)["image"], whole)
    floats = Signature({"image": Input((2, 2, 1), "float32")}).arrays(whole)["image"]
    assert floats.dtype == np.float32
    assert np.allclose(floats * 255, whole)


def test_bytes():
    signature = Signature({"tokens": Input((4,), "int32")}, tokenizer=BYTES)
    assert signature.arrays(["ab", "abcdef"])["tokens"].tolist() == [[97, 98, 0, 0], [97, 98, 99, 100]]


def test_tokens_have_a_mask():
    signature = Signature({name: TOKENS[name] for name in ("tokens", "token_mask")})
    arrays = signature.arrays(np.array([[5, 6, 7]]))
    assert arrays["tokens"].tolist() == [[5, 6, 7, 0, 0, 0]]
    assert arrays["token_mask"].tolist() == [[1, 1, 1, 0, 0, 0]]
    named = signature.arrays({"tokens": np.ones((1, 6), np.int64)})
    assert named["token_mask"].tolist() == [[1] * 6]


def test_texts_and_pairs(tmp_path):
    signature = Signature(TOKENS, tokenizer=write_wordpiece(tmp_path / "bert"))
    arrays = signature.arrays(["good film", "unwatchable"])
    assert arrays["tokens"].tolist() == [[2, 5, 6, 3, 0, 0], [2, 8, 9, 10, 3, 0]]
    assert arrays["token_mask"].sum(1).tolist() == [4, 5]
    assert [*arrays] == [*TOKENS]
    assert signature.arrays([("good", "bad")])["segment"].tolist() == [[0, 0, 0, 1, 1, 0]]


def test_rows_of_a_table():
    rows = Table(np.array([[1.0, 2.0], [3.0, 6.0]]), ("a", "b"))
    signature = Signature({"features": Input((2,), "float32")}, featurizer=featurizer.fit(("standardize",), rows))
    assert signature.arrays([[1, 2]])["features"].tolist() == [[-1, -1]]
    assert signature.arrays({"b": [6], "a": [3]})["features"].tolist() == [[1, 1]]
    with pytest.raises(UserError, match="must have the column 'b', got"):
        signature.arrays({"a": [1]})


BAD = {
    "shape": (np.zeros((1, 3, 3, 1), np.uint8), r"image \[n, 2, 2, 1\] \(uint8\), got image \[1, 3, 3, 1\]"),
    "one": (np.zeros((2, 2, 1), np.uint8), r"got image \[2, 2, 1\]"),
    "floats": (np.full((1, 2, 2, 1), 3.0), r"must be in \[0, 1\]"),
    "name": ({"image": np.zeros((1, 2, 2, 1), np.uint8), "imag": np.zeros(1)}, "Did you mean 'image'"),
    "text": ("one text", "must be several texts"),
    "texts": (["one text"], "The network has no tokenizer"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_inputs_are_refused(name):
    x, message = BAD[name]
    with pytest.raises(UserError, match=message):
        IMAGES.arrays(x)
