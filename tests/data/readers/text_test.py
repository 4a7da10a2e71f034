"""Any file as a text."""

import pytest

from jaxdistill.data import datasets
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
