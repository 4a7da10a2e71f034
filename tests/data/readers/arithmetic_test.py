"""The embedded text of sums."""

import hashlib

from jaxdistill.data import datasets


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
