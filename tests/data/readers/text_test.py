"""Any file as a text."""

import numpy as np
import pytest

from jaxdistill.data import datasets
from jaxdistill.data.readers import text as reader
from jaxdistill.data.train_tokenizer import train_tokenizer
from jaxdistill.errors import UserError


def test_splits_are_fractions_of_the_bytes(tmp_path):
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
    mistakes = {"train": "train[:50%]", "test": "[60%:50%]", "validation": "[:3]"}
    for role, part in mistakes.items():
        with pytest.raises(UserError, match=f"data.splits.{role} must be a part such as"):
            datasets.load("text", path=str(tmp_path / "text"), length=8, splits={role: part})


def test_parts_of_a_text_do_not_overlap(tmp_path):
    (tmp_path / "text").write_bytes(b"0123456789" * 10)
    parts = {"train": "[:80%]", "validation": "[80%:]", "test": "[75%:80%]"}
    with pytest.raises(UserError, match=r"splits.train='\[:80%\]' and data.splits.test='.*common, got 5 bytes. Take"):
        datasets.load("text", path=str(tmp_path / "text"), length=8, splits=parts)


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


def test_windows_of_tokens(tmp_path, monkeypatch):
    """A part begins with a whole character, and blocks of lines are tokens by themselves."""
    text = "über die brücke, über den fluss\n" * 10
    train_tokenizer([text], 280, tmp_path)
    (tmp_path / "text").write_text(text, encoding="utf-8")
    options = {"path": str(tmp_path / "text"), "length": 8, "tokenizer": str(tmp_path)}
    dataset = datasets.load("text", **options, splits={"train": "[:51%]", "test": "[51%:]"})
    tokens = [split.text for split in dataset.splits.values()]
    library = reader.open_tokenizer(str(tmp_path)).library
    assert "".join(library.decode(part) for part in tokens) == text
    assert (dataset.vocabulary, dataset.of_bytes) == (max(token.max() for token in tokens) + 1, False)
    assert dataset.tokenizer.startswith("BPE ")
    assert dataset.split("train").take(np.array([1]))["tokens"][0].tolist() == tokens[0][7:15].tolist()
    (tmp_path / "accents").write_text("é" * 50, encoding="utf-8")
    for percent in (50, 51):  # the second is within a character
        accents = options | {"path": str(tmp_path / "accents")}
        dataset = datasets.load("text", **accents, splits={"train": f"[:{percent}%]", "test": f"[{percent}%:]"})
        assert "".join(library.decode(split.text) for split in dataset.splits.values()) == "é" * 50
    monkeypatch.setattr(reader, "BLOCK", 40)
    again = datasets.load("text", **options, splits={"train": "[:51%]", "test": "[51%:]"})
    assert "".join(library.decode(split.text) for split in again.splits.values()) == text
    (tmp_path / "text").write_bytes(b"good\n\xff" * 20)
    with pytest.raises(UserError, match="must be UTF-8 with data.tokenizer, got the byte 0xff in line 2"):
        datasets.load("text", **options)


@pytest.mark.parametrize("block", [1, 7, 40])
def test_blocks_are_those_of_the_whole_text(block, monkeypatch):
    """A file is read in pieces that may end within a character, and a block is the same wherever they end."""
    monkeypatch.setattr(reader, "BLOCK", block)
    text = "".join(np.random.RandomState(block).choice([*"ab\n\n\r", "é", "€", "😀"], 300)) + "aaa"
    raw = np.frombuffer(text.encode(), np.uint8)
    blocks, start = [], 0
    while start < len(text):
        end = text.find("\n", start + block) + 1 or len(text)
        blocks.append(text[start:end])
        start = end
    assert [*reader.iterate_blocks(raw, slice(0, len(raw)), "path")] == blocks
    damaged = raw.copy()
    damaged[-2] = 0xC3
    line = text.count("\n") + 1
    with pytest.raises(UserError, match=f"must be UTF-8 with data.tokenizer, got the byte 0xc3 in line {line}. "):
        list(reader.iterate_blocks(damaged, slice(0, len(raw)), "path"))
