"""Values and arrays in temporary files: equal to those in memory, which does not grow with the corpus."""

import gc
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import npz_files
import saved_datasets
from jaxdistill.data import answers as answer_tokens
from jaxdistill.data import datasets, row_files, spans, spilled, tokenizers
from jaxdistill.data.columns import read_columns
from jaxdistill.data.dataset import AnswerSettings
from jaxdistill.data.readers import text as text_reader
from jaxdistill.data.tables import categories
from jaxdistill.data.tables import table as tables
from jaxdistill.errors import UserError
from tokenizer_files import write_wordpiece

TEXTS = ["good film", "", "a bad film ü", "\ud800 lone", "film\n" * 3]
MIXED = [*TEXTS, None, 3, "end", [{"role": "ü", "n": 0.1}], float("inf"), 10**30, (1, 2), b"\xff", True]


@pytest.fixture
def small(monkeypatch):
    """Everything is in files, a few values and rows at a time."""
    monkeypatch.setattr(spilled, "SPILL_FROM", 0)
    monkeypatch.setattr(spilled, "BLOCK_VALUES", 3)
    monkeypatch.setattr(spilled, "ROWS", 3)
    monkeypatch.setattr(tables, "ROWS", 3)
    for module in (answer_tokens, spans, tokenizers):
        monkeypatch.setattr(module, "CHUNK", 3)


def write(path, texts, **more):
    path.write_text("".join(json.dumps({"t": text, "n": n} | more) + "\n" for n, text in enumerate(texts)))
    return path


def write_column(values, scratch=None):
    writer = spilled.ColumnWriter(scratch)
    writer.extend(values)
    return writer.finish()


@pytest.mark.parametrize("values", [TEXTS, MIXED, [0.5, -1e300] * 4])
def test_values_are_those_that_were_written(values, small):
    column = write_column(values)
    assert isinstance(column, spilled.SpilledValues)
    assert [*column] == column[:] == spilled.gather(column) == values
    assert [*map(type, column)] == [*map(type, values)]
    assert [column[-1], column[-len(values)], column[2:4], len(column)] == [
        values[-1],
        values[0],
        values[2:4],
        len(values),
    ]
    with pytest.raises(IndexError):
        column[len(values)]
    chosen = spilled.select(column, spilled.Selection(np.array([3, 0, 4])))
    both = spilled.join([chosen, values, column])
    assert [*chosen] == spilled.gather(chosen) == [values[3], values[0], values[4]]
    assert [*both] == spilled.gather(both) == [values[3], values[0], values[4], *values, *values]
    assert both[1:4] == [values[0], values[4], values[0]]
    assert spilled.join([[1], [2]]) == [1, 2]


def test_values_are_read_in_the_order_of_the_file(small):
    column = spilled.select(write_column(range(9)), spilled.Selection(np.array([8, 1, 7, 0])))
    assert [(rows.tolist(), values) for rows, values in spilled.iterate(column)] == [([3, 1], [0, 1]), ([2, 0], [7, 8])]


def test_few_values_are_a_list():
    assert write_column(["a"]) == ["a"]


def test_columns_that_are_read_together_share_what_memory_holds(monkeypatch):
    monkeypatch.setattr(spilled, "SPILL_FROM", 1000)
    scratch = spilled.Scratch()
    held, mapped = (write_column(["x" * 500], scratch) for _ in range(2))
    assert held == ["x" * 500] == [*mapped]
    assert isinstance(mapped, spilled.SpilledValues)
    assert isinstance(write_column(["x" * 500]), list)


def test_files_that_are_read_together_share_what_memory_holds(monkeypatch, tmp_path):
    monkeypatch.setattr(spilled, "SPILL_FROM", 1000)
    for name in "ab":
        write(tmp_path / f"{name}.jsonl", ["x" * 500])
    rows = row_files.read_rows("data.path", str(tmp_path / "*.jsonl"), "", {"t": "data.text"})
    assert [type(values) for values in rows.columns["t"].sequences] == [list, spilled.SpilledValues]


@pytest.mark.parametrize("held", [0, 8, 44])
def test_an_array_is_that_of_its_parts(held, small, monkeypatch):
    monkeypatch.setattr(spilled, "SPILL_FROM", held)
    parts = [np.arange(2 * n, dtype=np.int16).reshape(n, 2) for n in (2, 9, 1)]
    writer = spilled.ArrayWriter()
    for part in parts:
        writer.append(part)
    array = writer.finish()
    assert spilled.is_mapped(array)
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array, np.concatenate(parts))
    doubled = spilled.map_rows(lambda x, y: x + y, array, array)
    assert spilled.is_mapped(doubled)
    np.testing.assert_array_equal(doubled, 2 * np.concatenate(parts))


def test_a_folder_that_cannot_hold_the_file(small, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="TMPDIR must be a folder with room .*, got '.*nowhere' .* Set it to a folder"):
        write_column(["text"])
    full = pathlib.Path("/dev/full")
    monkeypatch.setattr(spilled, "_open_file", lambda: full.open("wb"))
    with pytest.raises(UserError, match=r"TMPDIR must be a folder with room .*No space left on device.*larger disk"):
        write_column(["text" * 10_000])
    writer = spilled.ArrayWriter()
    writer.append(np.zeros(3))  # less than a buffer of the file, which is written at the end
    with pytest.raises(UserError, match="No space left on device"):
        writer.finish()
    gc.collect()  # a file that failed is not written again


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
    assert isinstance(columns["t"], spilled.SpilledValues)
    assert [*columns["t"]] == texts
    assert [str(value) for value in columns["n"]] == ["0", "1", "2"]


WORDS = ["good film", "bad film", "unwatchable", "a good film é"] * 5


def text_rows(folder):
    for name, part in (("a", slice(12)), ("b", slice(12, None))):
        write(folder / f"{name}.jsonl", WORDS[part], pair="film", y="ab"[part.start is None])
    parts = {"train": "[:80%]", "test": "[80%:]"}
    columns = {"text": "t", "pair": "pair", "label": "n", "route": "pair"}
    return "text_rows", {"path": str(folder / "*.jsonl"), "length": 8, "splits": parts} | columns


def text(folder):
    (folder / "t.txt").write_text("good film, bad é\nunwatchable\n" * 40, encoding="utf-8")
    return "text", {"path": str(folder / "t.txt"), "length": 8}


def answers(folder):
    rows = [{"t": text, "a": "a good é " * (1 + n % 7), "p": "film"} for n, text in enumerate(WORDS)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = AnswerSettings(answer="a", end=" film", teacher_text="p", spans=True)
    return "answers", {"path": str(folder / "t.jsonl"), "text": "t", "answers": options, "length": 12}


def chats(folder):
    write(
        folder / "t.jsonl", WORDS, m=[{"role": "user", "content": "good"}, {"role": "assistant", "content": "film é"}]
    )
    options = AnswerSettings(messages="m", template="plain")
    return "answers", {"path": str(folder / "t.jsonl"), "answers": options, "length": 9}


ROWS = {
    "x": [0.1 * n - 0.7 if n % 5 else None for n in range(40)],
    "n": [*range(40)],
    "c": [("red", "blue", None)[n % 3] for n in range(40)],
    "y": ["yes" if n % 4 else "no" for n in range(40)],
}
TABLE = {"transforms": ("indicator", "impute:median", "clip:0.05", "standardize", "onehot:c", "scale"), "label": "y"}


def csv(folder):
    rows = zip(*ROWS.values(), strict=True)
    lines = (",".join("" if value is None else str(value) for value in row) for row in rows)
    (folder / "t.csv").write_text("\n".join([",".join(ROWS), *lines]))
    return "table", {"path": str(folder / "t.csv")} | TABLE


def long_strings(folder):
    transforms = ("impute:mean", "standardize", "tfidf:9")
    return "table", csv(folder)[1] | {"target": "n", "label": "", "transforms": transforms, "columns": ("x", "c")}


def parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(ROWS), folder / "t.parquet")
    return "table", {"path": str(folder / "t.parquet"), "columns": ("n", "x", "c"), "route": "y"} | TABLE


def saved(folder):
    pytest.importorskip("pyarrow")
    saved_datasets.save(folder / "saved", ROWS)
    return "table", {"path": str(folder / "saved")} | TABLE


def npz_tokens(folder):
    return "npz", {"path": npz_files.write_tokens(folder)}


def npz_compressed(folder):
    np.savez_compressed(folder / "z.npz", **npz_files.image_arrays(rows=9))
    return "npz", {"path": str(folder / "z.npz")}


def npz_features(folder):
    features = np.asfortranarray(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    label = np.arange(20) % 2
    np.savez(folder / "f.npz", train_features=features, train_label=label, test_features=features, test_label=label)
    return "npz", {"path": str(folder / "f.npz"), "transforms": ("standardize",)}


OF_TEXTS = (text_rows, text, answers, chats)
SOURCES = (*OF_TEXTS, csv, long_strings, parquet, saved, npz_tokens, npz_compressed, npz_features)


def check_equal(dataset, expected):
    facts = ("classes", "class_names", "targets", "cut_texts", "routes", "vocabulary")
    assert [getattr(dataset, name) for name in facts] == [getattr(expected, name) for name in facts]
    if expected.featurizer:
        assert dataset.featurizer.digest() == expected.featurizer.digest()
    for role, split in expected.splits.items():
        mapped = dataset.split(role).take(np.arange(len(split)))
        for name, array in split.take(np.arange(len(split))).items():
            assert mapped[name].dtype == array.dtype
            np.testing.assert_array_equal(mapped[name], array, err_msg=name)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_a_dataset_is_that_of_the_same_values_in_memory(source, tmp_path, request, monkeypatch):
    monkeypatch.setattr(text_reader, "BLOCK", 100)  # in memory too: a block becomes tokens by itself
    name, options = source(tmp_path)
    if source in OF_TEXTS:
        options["tokenizer"] = write_wordpiece(tmp_path / "words")
    held = datasets.load(name, **options)
    request.getfixturevalue("small")
    monkeypatch.setattr(categories, "LARGEST", 0 if source is long_strings else categories.LARGEST)
    mapped = datasets.load(name, **options)
    check_equal(mapped, held)
    assert mapped.split("train").is_mapped == (source not in (long_strings, npz_compressed))


@pytest.mark.parametrize("name", ["tiny_text", "tiny_pairs"])
def test_texts_of_tfds(name, tiny_tfds_dir, tmp_path, request):
    words = {"tokenizer": write_wordpiece(tmp_path / "words"), "length": 8}
    forms = (
        ({"length": 4}, words)
        if name == "tiny_text"
        else (words, {"columns": ("text",), "transforms": ("hash:3",), "label": "label"})
    )
    options = [{"data_dir": tiny_tfds_dir, "splits": {"train": "train", "test": "test"}} | form for form in forms]
    held = [datasets.load(name, **form) for form in options]
    request.getfixturevalue("small")
    for form, expected in zip(options, held, strict=True):
        mapped = datasets.load(name, **form)
        assert mapped.split("train").is_mapped
        check_equal(mapped, expected)


def test_rows_that_cannot_be_read(tmp_path, small):
    """The first in the order of the split is named, whatever the order in the file is."""
    words, path = write_wordpiece(tmp_path / "words"), write(tmp_path / "a.jsonl", [*WORDS[:11], 3, 4])
    with pytest.raises(UserError, match="row 12 of .*a.jsonl must have a string as text, got 3"):
        datasets.load("text_rows", path=str(path), text="t", tokenizer=words, length=8, splits={"train": "[:]"})
    write(path, ["good"] * 9, a="film")
    path.write_text(path.read_text() + '{"t": "", "a": "film"}\n')
    with pytest.raises(UserError, match="row 10 of .*a.jsonl must have a prompt with tokens, got 'film'"):
        datasets.load(
            "answers",
            path=str(path),
            text="t",
            answers=AnswerSettings(answer="a"),
            length=9,
            splits={"train": "[:]"},
        )
    parts = {"train": "[:50%]", "test": "[50%:]"}
    path.write_text("".join(f'{{"x": {n}, "y": "{n % 2}"}}\n' for n in range(30)) + '{"x": "z", "y": "0"}\n' * 9)
    with pytest.raises(UserError, match="row 31 of .*a.jsonl must have a finite number in column 'x', .* got 'z'"):
        datasets.load("table", path=str(path), label="y", splits=parts)
    path.write_text("".join(f'{{"x": {n}, "y": "{n // 8}"}}\n' for n in range(30)))
    with pytest.raises(UserError, match="'y' in row 17 of .*a.jsonl must be a class of the training split, got '2'"):
        datasets.load("table", path=str(path), label="y", splits=parts)


MEMORY = [("text", 25, 20), ("text_rows", 25, 20), ("answers", 25, 20), ("table", 100, 40)]


def test_errors_of_a_split_by_chance_are_those_of_values_in_memory(tmp_path, request, monkeypatch):
    path, messages = tmp_path / "a.jsonl", []
    path.write_text("".join(f'{{"x": {n}, "y": "{n % 2}"}}\n' for n in range(30)) + '{"x": "z", "y": "0"}\n' * 9)
    for _ in range(2):
        with pytest.raises(
            UserError, match="'x' must have numbers alone or words alone, got .* and 'z' in row"
        ) as error:
            datasets.load("table", path=str(path), label="y")
        messages.append(str(error.value))
        request.getfixturevalue("small")
        monkeypatch.setattr(spilled, "BLOCK_VALUES", 20)  # so that a block has several rows of each kind
    assert messages[0] == messages[1]


SCRIPT = """
import pathlib, resource, sys
import numpy as np
from jaxdistill.data import datasets, spilled
from jaxdistill.data.dataset import AnswerSettings
from jaxdistill.data import answers, tokenizers
from jaxdistill.data.readers import text
import sklearn.impute

def status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10

spilled.SPILL_FROM = 1 << 20
text.BLOCK, answers.CHUNK, tokenizers.CHUNK = 1 << 16, 256, 256  # the library takes a hundred times that of a text
name, path, few, words, bound = sys.argv[1:]
options = {
    "text_rows": dict(text="t", label="y", tokenizer=words, length=64),
    "text": dict(tokenizer=words, length=64),
    "answers": dict(text="t", answers=AnswerSettings(answer="y"), tokenizer=words, length=64),
    "table": dict(label="y", transforms=("onehot", "impute:mean", "standardize")),
}[name]
datasets.load(name, path=few, **options).split("train").take(np.arange(64))
limit = status("VmData") + (int(bound) << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
split = datasets.load(name, path=path, **options).split("train")
order = np.random.default_rng(0).permutation(len(split))
for start in range(0, len(split), 1024):
    split.take(order[start : start + 1024])
"""

LINE = "film " * 40


def write_large(name, path, size):
    lines = {
        "text": lambda n: f"{LINE}{n}\n",
        "text_rows": lambda n: json.dumps({"t": LINE, "y": n % 3}) + "\n",
        "answers": lambda n: json.dumps({"t": LINE, "y": "good film"}) + "\n",
        "table": lambda n: f"{','.join(f'{n * p % 977 / 977:.15f}' for p in range(11))},{'abc'[n % 3]},{'yn'[n % 2]}\n",
    }[name]
    header = ",".join([*(f"x{p}" for p in range(11)), "c", "y"]) + "\n" if name == "table" else ""
    part = "".join(map(lines, range(5000)))
    with path.open("w") as file:
        file.write(header)
        for _ in range(size // len(part) + 1):
            file.write(part)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited by RLIMIT_DATA of Linux")
@pytest.mark.parametrize(("name", "megabytes", "bound"), MEMORY)
def test_memory_does_not_grow_with_the_corpus(name, megabytes, bound, tmp_path):
    """A process that may take `bound` MB more reads a corpus of several times that size, with its tokens or values."""
    suffix = {"text": "txt", "table": "csv"}.get(name, "jsonl")
    few, path = tmp_path / f"few.{suffix}", tmp_path / f"t.{suffix}"
    write_large(name, few, 1 << 20)
    write_large(name, path, megabytes << 20)
    words = [str(path), str(few), write_wordpiece(tmp_path / "words"), str(bound)]
    ran = subprocess.run([sys.executable, "-c", SCRIPT, name, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
