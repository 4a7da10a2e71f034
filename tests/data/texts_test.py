"""Texts: windows of bytes, files, arrays of tokens, and what is said of those that are none."""

import numpy as np
import pytest

from jaxdistill.config.parse import parse
from jaxdistill.config.schema import DataConfig
from jaxdistill.core import UNLABELLED
from jaxdistill.data import build, datasets, loader, output_cache, texts
from jaxdistill.errors import UserError
from npz_files import write_tokens


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
def test_options_of_the_other_kind_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        opened(**{"name": "arithmetic", "length": 8} | given)


def test_tokens_have_their_own_length(tmp_path):
    assert opened(name="npz", path=write_tokens(tmp_path)).shape == (5,)
    with pytest.raises(UserError, match="data.length=4 cuts a text in windows, and 'npz' has texts"):
        opened(name="npz", path=write_tokens(tmp_path), length=4)


def test_resident_and_streamed_texts_are_the_same(tmp_path):
    dataset = datasets.load("npz", path=write_tokens(tmp_path))
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


def test_the_digest_of_a_split_covers_tokens_and_padding(tmp_path):
    one = datasets.load("npz", path=write_tokens(tmp_path)).split("train")
    tokens, mask = one.tokens.copy(), one.fields["token_mask"].copy()
    tokens[2, 0] += 1
    mask[2, 0] = 0
    others = [texts.Texts(tokens, one.label, one.fields), texts.Texts(one.tokens, one.label, {"token_mask": mask})]
    assert len({output_cache.content(split) for split in (one, *others)}) == 3
    assert output_cache.content(one) == output_cache.content(texts.Texts(one.tokens, one.label + 1, one.fields))
