"""Texts: windows of bytes, files, arrays of tokens, and what is said of those that are none."""

import hashlib
import sys

import numpy as np
import pytest

from jaxdistill.config.parse import parse
from jaxdistill.config.schema import DataConfig
from jaxdistill.core import UNLABELLED
from jaxdistill.data import build, datasets, loader, output_cache, texts
from jaxdistill.errors import UserError


def test_windows_by_hand():
    split = texts.Windows(np.frombuffer(b"abcdefghi", np.uint8), 4)
    assert len(split) == 2  # "i" and the byte before it would be too few for a third
    batch = split.take(np.array([1, 0]))
    assert [bytes(row.astype(np.uint8)) for row in batch["tokens"]] == [b"defg", b"abcd"]
    assert batch["tokens"].dtype == np.int32
    assert batch["label"].tolist() == split.labels().tolist() == [UNLABELLED] * 2


@pytest.mark.parametrize("length", [2, 5, 9])
def test_every_byte_but_the_first_is_the_next_token_once(length):
    text = np.arange(41, dtype=np.uint8)
    split = texts.Windows(text, length)
    predicted = split.take(np.arange(len(split)))["tokens"][:, 1:].reshape(-1)
    np.testing.assert_array_equal(predicted, text[1 : 1 + len(predicted)])
    assert len(text) - 1 - len(predicted) < length - 1


def test_the_embedded_text_is_the_same_on_every_machine():
    dataset = datasets.load("arithmetic", length=32)
    assert (dataset.classes, dataset.class_names, dataset.shape, dataset.vocabulary) == (256, (), (32,), 256)
    assert {role: len(split) for role, split in dataset.splits.items()} == {
        "train": 1438,
        "validation": 178,
        "test": 180,
    }
    text = b"".join(bytes(split.text) for split in dataset.splits.values())
    assert all(sum(map(int, line.split(b"=")[0].split(b"+"))) == int(line.split(b"=")[1]) for line in text.splitlines())
    assert hashlib.sha256(text).hexdigest()[:16] == "c12f238bbcac5d6f"


def test_a_file_is_cut_by_shares_of_its_bytes(tmp_path):
    text = "Zwölf Boxkämpfer jagen Viktor.".encode() * 10
    (tmp_path / "text").write_bytes(text)
    dataset = datasets.load("text", path=str(tmp_path / "text"), length=8)
    assert [len(split.text) for split in dataset.splits.values()] == [288, 16, 16]
    assert b"".join(bytes(split.text) for split in dataset.splits.values()) == text
    parts = {"train": "[:50%]", "validation": "", "test": "[75%:]"}
    dataset = datasets.load("text", path=str(tmp_path / "text"), length=8, splits=parts)
    assert {role: bytes(split.text) for role, split in dataset.splits.items()} == {
        "train": text[:160],
        "test": text[240:],
    }
    told = {"train": "train[:50%]", "test": "[60%:50%]", "validation": "[:3]"}
    for role, part in told.items():
        with pytest.raises(UserError, match=f"data.splits.{role} must be a part of a text such as"):
            datasets.load("text", path=str(tmp_path / "text"), length=8, splits={role: part})


def test_a_text_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="data.path must be a file of text in any encoding, got no file 'nowhere'"):
        datasets.load("text", path="nowhere", length=8)
    (tmp_path / "none").touch()
    with pytest.raises(UserError, match="is empty"):
        datasets.load("text", path=str(tmp_path / "none"), length=8)
    (tmp_path / "none").write_bytes(b"too short")
    with pytest.raises(UserError, match="the validation split of .* must fill a window of data.length=8, got 0 bytes"):
        datasets.load("text", path=str(tmp_path / "none"), length=8)
    with pytest.raises(UserError, match="data.length must be set for the text 'arithmetic'"):
        datasets.load("arithmetic")
    with pytest.raises(UserError, match=r"data.length must be at least 2 and finite, got 1"):
        datasets.load("arithmetic", length=1)


def arrays(**changed):
    rng = np.random.default_rng(0)
    made = {}
    for role, rows in (("train", 6), ("test", 4)):
        made[f"{role}_tokens"] = rng.integers(0, 9, (rows, 5))
        made[f"{role}_token_mask"] = np.arange(5)[None] < rng.integers(1, 6, (rows, 1))
        made[f"{role}_label"] = np.arange(rows) % 3
    made["train_tokens"][0, 0] = 8
    return {name: x for name, x in (made | changed).items() if x is not None}


def written(folder, **changed):
    path = folder / "texts.npz"
    np.savez(path, **arrays(**changed))
    return str(path)


def test_npz_of_tokens(tmp_path):
    dataset = datasets.load("npz", path=written(tmp_path))
    assert (dataset.classes, dataset.class_names, dataset.shape) == (3, ("0", "1", "2"), (5,))
    assert (dataset.vocabulary, dataset.of_bytes, next(iter(dataset.fields))) == (9, False, "tokens")
    batch, given = dataset.split("train").take(np.array([3, 1])), arrays()
    np.testing.assert_array_equal(batch["token_mask"], given["train_token_mask"][[3, 1]])
    np.testing.assert_array_equal(batch["tokens"], (given["train_tokens"] * given["train_token_mask"])[[3, 1]])
    assert {name: x.dtype.name for name, x in batch.items()} == dict.fromkeys(batch, "int32")


def test_npz_of_tokens_alone_is_for_language_models(tmp_path):
    bare = {f"{role}_{kind}": None for role in ("train", "test") for kind in ("label", "token_mask")}
    dataset = datasets.load("npz", path=written(tmp_path, vocabulary=np.array(12), **bare))
    assert (dataset.classes, dataset.class_names, dataset.vocabulary) == (12, (), 12)
    assert dataset.split("test").take(np.arange(2)).keys() == {"tokens", "label"}
    assert set(dataset.split("test").labels()) == {UNLABELLED}


MINUS = np.full((6, 5), -1)
BAD = [
    ({"train_label": None}, r"has a label for \['test'\] and not for the others of \['train', 'test'\]"),
    ({"test_token_mask": None}, r"has a token_mask for \['train'\]"),
    ({"train_image": np.zeros((6, 2, 2), np.uint8)}, "has images and tokens"),
    ({"train_tokens": np.ones((6, 5, 1), int)}, r"'train_tokens' has shape \(6, 5, 1\); expected \[n, length\]"),
    ({"train_tokens": np.ones((6, 4), int)}, r"'train_token_mask' has shape \(6, 5\) and the tokens \(6, 4\)"),
    ({"train_tokens": MINUS, "train_token_mask": np.ones((6, 5))}, "from -1 to -1; tokens are whole numbers from 0 on"),
    ({"train_tokens": np.ones((6, 5))}, "of float64; tokens are whole numbers"),
    ({"train_label": np.arange(5)}, r"'train_label' has shape \(5,\), and there are 6 texts"),
    ({"train_label": np.arange(6) - 1}, "labels are whole numbers from 0 on"),
    ({"test_label": np.array([0, 1, 2, 5])}, "'test_label' goes up to 5, and there are 3 classes"),
    ({"vocabulary": np.array(8)}, "vocabulary=8; it is one whole number, above the largest token 8"),
    ({"vocabulary": np.array([9])}, r"vocabulary=\[9\]; it is one whole number"),
    ({"test_tokens": np.ones((4, 3), int), "test_token_mask": np.ones((4, 3))}, "texts of different lengths"),
]


@pytest.mark.parametrize(("changed", "message"), BAD, ids=lambda x: str(x)[:40])
def test_bad_npz_of_tokens(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        datasets.load("npz", path=written(tmp_path, **changed))


def test_what_stands_for_padding_may_be_no_token(tmp_path):
    given = arrays()
    tokens = np.where(given["train_token_mask"], given["train_tokens"], -100)
    batch = datasets.load("npz", path=written(tmp_path, train_tokens=tokens)).split("train").take(np.arange(6))
    np.testing.assert_array_equal(batch["tokens"], given["train_tokens"] * given["train_token_mask"])


def opened(**given):
    return build.open_dataset(parse(DataConfig, given, "data"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 28}, "data.size=28 is of images, and 'arithmetic' has texts; leave it out"),
        ({"channels": 1}, "data.channels=1 is of images"),
        ({"mean": (0.5,)}, "data.mean=.* is of images"),
        ({"std": (0.5,)}, "data.std=.* is of images"),
        ({"statistics": 9}, "data.statistics=9 is of images"),
        ({"augment": ("flip",)}, "data.augment=.* is of images"),
        ({"views": 2}, "data.views=2 is of images"),
        ({"mix": {"noise": {"name": "noise"}}}, "data.mix mixes sets of images"),
        ({"name": "digits"}, "data.length=8 is of texts, and 'digits' has images; leave it out"),
    ],
)
def test_options_of_the_other_kind_are_told(given, message):
    with pytest.raises(UserError, match=message):
        opened(**{"name": "arithmetic", "length": 8} | given)


def test_tokens_have_their_own_length(tmp_path):
    assert opened(name="npz", path=written(tmp_path)).shape == (5,)
    with pytest.raises(UserError, match="data.length=4 cuts a text in windows, and 'npz' has texts"):
        opened(name="npz", path=written(tmp_path), length=4)


def test_resident_and_streamed_texts_are_the_same(tmp_path):
    dataset = datasets.load("npz", path=written(tmp_path))
    given = {"seed": 3, "batch": 4, "classes": 3}
    resident = loader.Resident.of(dataset.split("train"), **given)
    streamed = loader.Streamed(dataset.split("train"), **given)
    assert resident.resident.keys() == {"tokens", "label", "token_mask"}
    for one, other in zip(resident.step_inputs(0, 4), streamed.step_inputs(0, 4), strict=True):
        one, other = resident.make_batch(resident.resident, one), streamed.make_batch({}, other)
        assert one.keys() == other.keys() == {"tokens", "token_mask", "label", "index", "view", "mask"}
        for name, x in one.items():
            np.testing.assert_array_equal(np.asarray(x), np.asarray(other[name]))
    rows = list(loader.iterate_once(dataset.split("test"), 3, 3))
    assert [row["mask"].tolist() for row in rows] == [[1, 1, 1], [1, 0, 0]]


def test_the_digest_of_a_split_knows_its_tokens_and_its_padding(tmp_path):
    one = datasets.load("npz", path=written(tmp_path)).split("train")
    tokens, mask = one.tokens.copy(), one.fields["token_mask"].copy()
    tokens[2, 0] += 1
    mask[2, 0] = 0
    others = [texts.Texts(tokens, one.label, one.fields), texts.Texts(one.tokens, one.label, {"token_mask": mask})]
    assert len({output_cache.content(split) for split in (one, *others)}) == 3
    assert output_cache.content(one) == output_cache.content(texts.Texts(one.tokens, one.label + 1, one.fields))


def test_tfds_reads_a_text_without_tensorflow(tfds_dir):
    dataset = datasets.load("tiny_shakespeare", data_dir=tfds_dir, length=128)
    assert {role: len(split.text) for role, split in dataset.splits.items()} == {
        "train": 1_003_854,
        "validation": 55_770,
        "test": 55_770,
    }
    first = dataset.split("train").take(np.array([0]))["tokens"][0]
    assert bytes(first[:14].astype(np.uint8)) == b"First Citizen:"
    assert "tensorflow" not in sys.modules
    with pytest.raises(UserError, match=r"no split 'tets'.*There are \{'train': 1, 'validation': 1, 'test': 1\}"):
        datasets.load("tiny_shakespeare", data_dir=tfds_dir, length=128, splits={"train": "tets"})
    with pytest.raises(
        UserError, match="sst2 is not an image classification set, nor a text.*an .npz with train_tokens"
    ):
        datasets.load("sst2", data_dir=tfds_dir, length=128)


def test_further_fields_of_tokens(tmp_path):
    shape = arrays()["train_tokens"].shape, arrays()["test_tokens"].shape
    roles = dict(zip(("train", "test"), shape, strict=True))
    given = {f"{role}_answer_mask": np.ones(of) for role, of in roles.items()}
    given |= {f"{role}_segment": np.zeros(of, int) for role, of in roles.items()}
    given |= {f"{role}_teacher_tokens": np.full((of[0], 3), 40) for role, of in roles.items()}
    dataset = datasets.load("npz", path=written(tmp_path, **given))
    assert {*dataset.splits} == {"train", "test"}
    assert {"answer_mask", "segment", "teacher_tokens"} < {*dataset.fields}
    assert dataset.fields["teacher_tokens"][0] == (3,)
    assert dataset.vocabulary == 9  # of the student's tokens
    targets = {f"{role}_targets": np.full(of, -1) for role, of in roles.items()}
    assert "targets" in datasets.load("npz", path=written(tmp_path, **targets)).fields
    with pytest.raises(UserError, match="'train_targets' is from -2 to -2; targets are whole numbers from -1 on"):
        datasets.load("npz", path=written(tmp_path, **targets | {"train_targets": np.full(shape[0], -2)}))
    with pytest.raises(UserError, match=r"has a answer_mask for \['train'\]|has a segment for \['train'\]"):
        datasets.load("npz", path=written(tmp_path, train_segment=np.zeros(shape[0], int)))


@pytest.mark.parametrize(
    ("name", "nearest"), [("train_attention_mask", "train_segment|train_token_mask"), ("train_labels", "train_label")]
)
def test_an_array_of_an_unknown_name_is_refused(name, nearest, tmp_path):
    with pytest.raises(UserError, match=f"must have arrays ROLE_FIELD .*, got '{name}'"):
        datasets.load("npz", path=written(tmp_path, **{name: np.ones((6, 5), int)}))
