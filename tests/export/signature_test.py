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


def test_no_examples_are_arrays_of_none(tmp_path):
    assert IMAGES.arrays(np.zeros((0, 2, 2, 1), np.uint8))["image"].shape == (0, 2, 2, 1)
    text = Signature(TOKENS, tokenizer=BYTES)
    assert {name: x.shape for name, x in text.arrays([]).items()} == dict.fromkeys(TOKENS, (0, 6))
    assert AGES.arrays({"age": [], "city": []})["features"].shape == (0, 3)
    assert AGES.arrays([])["features"].shape == (0, 3)


def test_lists_are_arrays_and_arrays_of_texts_are_texts():
    whole = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    for signature in (IMAGES, Signature({"image": Input((2, 2, 1), "float32")})):
        expected = signature.arrays(whole)["image"]
        assert np.array_equal(signature.arrays(whole.tolist())["image"], expected)
    tokens = Signature({name: TOKENS[name] for name in ("tokens", "token_mask")}, tokenizer=BYTES)
    assert tokens.arrays([[1, 2, 3]])["tokens"].tolist() == [[1, 2, 3, 0, 0, 0]]
    assert tokens.arrays(np.array(["a", "b"]))["tokens"][:, 0].tolist() == [97, 98]


def test_a_tokenizer_is_beside_an_export(tmp_path):
    folder = write_wordpiece(tmp_path / "bert")
    (tmp_path / "one.json").write_text("{}")
    for tokenizer, name in ((folder, "."), (f"hf:{folder}", "."), (tmp_path / "one.json", "tokenizer.json")):
        described = Signature(TOKENS, tokenizer=str(tokenizer)).to_json()
        assert described["tokenizer"] == name
        assert Signature.parse(described, tmp_path).tokenizer == str(tmp_path / name)
    assert Signature(TOKENS, tokenizer=BYTES).to_json()["tokenizer"] == BYTES


AGES = Signature(
    {"features": Input((3,), "float32")},
    featurizer=featurizer.fit(("onehot",), Table(np.ones((2, 1)), ("age",), {"city": np.array(["Bonn", "Kyiv"])})),
)


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


TEXTS = Signature(TOKENS, tokenizer="nowhere")
BYTES_ALONE = Signature({"tokens": TOKENS["tokens"]}, tokenizer=BYTES)
FLOAT_IMAGES = Signature({"image": Input((2, 2, 1), "float32")})
AGE = Signature(
    {"features": Input((1,), "float32")},
    featurizer=featurizer.fit(("standardize",), Table(np.array([[1.0], [3.0]]), ("age",))),
)
BAD_OF = {
    "main": (IMAGES, {}, r"must be image .*, got \[\] without 'image'"),
    "other_name": (IMAGES, {"imag": [1]}, "Did you mean 'image'"),
    "nothing": (IMAGES, None, r"image must be an array of numbers, got object \[\]"),
    "ragged": (TEXTS, [[1, 2], [3]], "tokens must be an array, got rows of several lengths"),
    "uneven": (TEXTS, [("a", "b"), ("a",)], r"or pairs \(text, text\) alone, got \"\('a',\)\""),
    "mixed": (TEXTS, [("a", "b"), "a"], "or pairs .* alone, got 'a' among them"),
    "mixed_back": (TEXTS, ["a", ("a", "b")], "must be texts alone, or pairs"),
    "numbers": (TEXTS, ["a", 3], "must be texts alone, or pairs .* got '3' among them"),
    "pairs": (BYTES_ALONE, [("a", "b")], "must be texts for a network of bytes, got pairs"),
    "float_tokens": (TEXTS, [[0.5, 2.0]], r"tokens must be integers \(int32\), got float64"),
    "negative": (TEXTS, [[-1, 2]], "tokens must be integers from 0 to 2147483647, got -1 to 2"),
    "large": (TEXTS, [[1 << 40]], "tokens must be integers from 0 to 2147483647, got"),
    "large_image": (FLOAT_IMAGES, np.full((1, 2, 2, 1), 256), "image must be integers from 0 to 255, got 256"),
    "lengths": (AGES, {"age": [1, 2], "city": ["Bonn"]}, r"columns of one length, got {'age': \[2\], 'city': \[1\]}"),
    "scalars": (AGES, {"age": 1, "city": "Bonn"}, r"must be columns of one length, got {'age': \[\], 'city': \[\]}"),
    "text_of_number": (AGES, {"age": ["x"], "city": ["Bonn"]}, "the column 'age' must be numbers, got others"),
    "extra": (AGES, {"age": [1], "city": ["Bonn"], "cty": ["Bonn"]}, "got 'cty'. Did you mean 'city'?"),
    "rows": (AGES, [[1, "Bonn"], [2]], r"columns by name, \['age', 'city'\], since some are strings, got a list"),
    "row_of_texts": (AGE, [["x"]], "the inputs must be numbers, got others"),
    "no_rows": (AGE, None, r"the inputs must be rows of 1 columns \['age'\], got \[\]"),
}


@pytest.mark.parametrize("name", BAD_OF)
def test_inputs_of_texts_and_tables_are_refused(name):
    signature, x, message = BAD_OF[name]
    with pytest.raises(UserError, match=message):
        signature.arrays(x)


@pytest.mark.parametrize("name", BAD)
def test_other_inputs_are_refused(name):
    x, message = BAD[name]
    with pytest.raises(UserError, match=message):
        IMAGES.arrays(x)
