"""Texts and arrays in temporary files: equal to those in memory, which does not grow with the corpus."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxdistill.data import datasets, spilled
from jaxdistill.data.columns import read_columns
from jaxdistill.errors import UserError
from tokenizer_files import write_wordpiece

TEXTS = ["good film", "", "a bad film ü", "\ud800 lone", "film\n" * 3]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(spilled, "SPILL_FROM", 12)


def write(path, texts, **more):
    path.write_text("".join(json.dumps({"t": text, "n": n} | more) + "\n" for n, text in enumerate(texts)))
    return path


@pytest.mark.parametrize("values", [TEXTS, [*TEXTS, None, 3, "end"]])
def test_texts_are_those_that_were_written(values, small):
    writer = spilled.TextWriter()
    for value in values:
        writer.append(value)
    texts = writer.finish()
    assert isinstance(texts, spilled.SpilledTexts)
    assert [*texts] == texts[:] == values
    assert [texts[-1], texts[-len(values)], texts[2:4], len(texts)] == [values[-1], values[0], values[2:4], len(values)]
    with pytest.raises(IndexError):
        texts[len(values)]
    chosen = spilled.select(texts, np.array([3, 0]))
    both = spilled.join([chosen, values, texts])
    assert [*both] == [values[3], values[0], *values, *values]
    assert both[1:3] == [values[0], values[0]]
    assert spilled.join([[1], [2]]) == [1, 2]


def test_few_texts_are_a_list():
    writer = spilled.TextWriter()
    writer.append("a")
    assert writer.finish() == ["a"]


def test_an_array_is_that_of_its_parts(small):
    parts = [np.arange(n, dtype=np.int16) for n in (2, 9, 1)]
    writer = spilled.ArrayWriter()
    for part in parts:
        writer.append(part)
    array = writer.finish()
    assert isinstance(array, np.memmap)
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array, np.concatenate(parts))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_of_files(tmp_path, suffix, small):
    texts, path = ["good film", "a bad one", "ü" * 9], tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"t": texts, "n": [0, 1, 2]}), path)
    elif suffix == "jsonl":
        write(path, texts)
    else:
        mark = {"csv": ",", "tsv": "\t"}[suffix]
        path.write_text(f"t{mark}n\n" + "".join(f"{text}{mark}{n}\n" for n, text in enumerate(texts)))
    columns = read_columns(path, {"n": "data.label", "t": "data.text"})
    assert isinstance(columns["t"], spilled.SpilledTexts)
    assert [*columns["t"]] == texts
    assert [str(value) for value in columns["n"]] == ["0", "1", "2"]


def test_a_dataset_is_that_of_texts_in_memory(tmp_path, monkeypatch):
    words, texts = write_wordpiece(tmp_path / "words"), ["good film", "bad film", "unwatchable", "a good film"] * 5
    for name, part in (("a", texts[:12]), ("b", texts[12:])):
        write(tmp_path / f"{name}.jsonl", part, pair="film")
    options = {"path": str(tmp_path / "*.jsonl"), "text": "t", "pair": "pair", "tokenizer": words, "length": 8}
    held = datasets.load("text_rows", **options)
    monkeypatch.setattr(spilled, "SPILL_FROM", 12)
    mapped = datasets.load("text_rows", **options)
    assert isinstance(mapped.split("train").tokens.token, np.memmap)
    for role, split in held.splits.items():
        expected = split.take(np.arange(len(split)))
        for name, array in mapped.split(role).take(np.arange(len(split))).items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    write(tmp_path / "a.jsonl", [*texts[:11], 3], pair="film")
    with pytest.raises(UserError, match="row 12 of .*a.jsonl must have a string as text, got 3"):
        datasets.load("text_rows", **options)


SCRIPT = """
import pathlib, sys
from jaxdistill.data import datasets, spilled
import jaxdistill.data.readers.text_rows, numpy as np, tokenizers

def anonymous():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) >> 10

spilled.SPILL_FROM = 1 << 20
path, words = sys.argv[1:]
options = dict(text="t", tokenizer=words, length=64)
datasets.load("text_rows", path=path + ".few.jsonl", **options)
before = anonymous()
dataset = datasets.load("text_rows", path=path, **options)
split = dataset.split("train")
for start in range(0, len(split), 4096):
    split.take(np.arange(start, min(start + 4096, len(split))))
print(anonymous() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """Of 60 MB of texts, whose tokens are 57 MB, a third at most is in memory beside the mapped files."""
    words = write_wordpiece(tmp_path / "words")
    line = json.dumps({"t": "good film bad unwatchable a film " * 18}) + "\n"
    path = tmp_path / "t.jsonl"
    with path.open("w") as file:
        for _ in range(100_000):
            file.write(line)
    (tmp_path / "t.jsonl.few.jsonl").write_text(line * 5000)
    ran = subprocess.run([sys.executable, "-c", SCRIPT, str(path), words], capture_output=True, text=True, check=True)
    assert path.stat().st_size > 55 << 20
    assert int(ran.stdout) < 40
