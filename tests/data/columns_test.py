"""Columns of CSV, TSV, JSONL and Parquet files, and the row of each mistake."""

import pyarrow
import pytest
from pyarrow import parquet

from jaxdistill.data.columns import locate, read_columns
from jaxdistill.errors import UserError

TEXT = {"text": "data.text"}
ROWS = {"text": ["a, b", 'say "c"', "two\nlines"], "label": ["0", "", "2"]}
CSV = 'text,label\n"a, b",0\n"say ""c""",\n"two\nlines",2\n\n'
JSONL = '{"text": "a\u2028b", "n": 1}\n{"text": null, "n": 2.5, "more": 1}\n'
FEW = pyarrow.table({"text": ["a", None], "n": [1, 2]})


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_csv_has_strings(tmp_path):
    assert read_columns(write(tmp_path, "a.csv", CSV)) == ROWS
    assert read_columns(write(tmp_path, "b.CSV", b"\xef\xbb\xbf" + CSV.encode()), TEXT) == {"text": ROWS["text"]}
    long = "x" * 200_000
    assert read_columns(write(tmp_path, "c.csv", f"text\n{long}\n")) == {"text": [long]}


def test_a_tsv_has_no_quotes(tmp_path):
    assert read_columns(write(tmp_path, "a.tsv", 'text\tn\n"a\t1\n')) == {"text": ['"a'], "n": ["1"]}


def test_a_jsonl_and_a_parquet_have_types(tmp_path):
    columns = read_columns(write(tmp_path, "a.jsonl", JSONL), {"n": "data.label"} | TEXT)
    assert columns == {"n": [1, 2.5], "text": ["a\u2028b", None]}
    parquet.write_table(FEW, tmp_path / "a.parquet")
    assert read_columns(tmp_path / "a.parquet") == {"text": ["a", None], "n": [1, 2]}
    assert read_columns(tmp_path / "a.parquet", {"n": "data.label"}) == {"n": [1, 2]}


def test_rows_are_counted_as_a_spreadsheet_counts_them(tmp_path):
    assert locate(tmp_path / "a.csv", 0).startswith("row 2 of ")
    assert locate(tmp_path / "a.jsonl", 0).startswith("row 1 of ")


MISTAKES = {
    "ragged": ("a.csv", "text,label\na,1\nb\n", r"row 3 of .*a.csv must have 2 columns.*got 1: \['b'\]"),
    "too many": ("a.csv", "text,label\na,b,1\n", r"row 2 .*got 3: \['a', 'b', '1'\]"),
    "empty line": ("a.csv", "text,label\na,1\n\nb,2\n", "row 3 .*got 0"),
    "open quote": ("a.csv", 'text,label\na,1\n"b,2\n', "row 3 of .* must be CSV, got unexpected end of data"),
    "stray quote": ("a.csv", 'text,label\n"a" b,1\n', "row 2 of .* must be CSV"),
    "same name": ("a.csv", "text,text\na,1\n", r"different names of columns, got \['text'\] twice"),
    "no name": ("a.csv", "", "must have the names of its columns in row 1"),
    "no row": ("a.csv", "text,label\n", "at least one row"),
    "absent": (
        "a.csv",
        "texts,label\na,1\n",
        r"data.text, .*got 'text'. Did you mean 'texts'\? There are \['label', 'texts'\]",
    ),
    "latin-1": ("a.csv", "text,label\na,1\né,2\n".encode("latin-1"), "UTF-8, got the byte 0xe9 in line 3"),
    "utf-16": ("a.csv", "text,label\na,1\n".encode("utf-16"), "must be UTF-8, got UTF-16"),
    "json": ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', "row 2 of .*a.jsonl must be a JSON object, got"),
    "json list": ("a.jsonl", "[1]\n", r"row 1 of .*must be a JSON object, got '\[1\]'"),
    "json blank": ("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "a", "label": 1}', "row 2 of .*got an empty line"),
    "json deep": ("a.jsonl", "[" * 100_000, r"row 1 of .*must be a JSON object, got '\[\[.*recursion depth"),
    "json absent": ("a.jsonl", '{"texts": "a", "label": 1}\n', "Did you mean 'texts'"),
    "json later": ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "a"}\n', r"row 2 .*must have \['label'\]"),
    "suffix": ("a.xlsx", "x", r"suffix of \['.csv', '.tsv', '.jsonl', '.parquet'\]"),
    "parquet": ("a.parquet", b"PAR1, and no more", "must be a Parquet file, got one that is damaged"),
}


@pytest.mark.parametrize(("name", "content", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(UserError, match=message):
        read_columns(path, TEXT | {"label": "data.label"})


def test_a_parquet_of_equal_names_or_of_other_bytes_than_utf_8(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 3, ["text", "label", "label"]), path)
    with pytest.raises(UserError, match=r"a.parquet must have different names of columns, got \['label'\] twice"):
        read_columns(path, TEXT | {"label": "data.label"})
    latin = pyarrow.array([b"caf\xe9"], pyarrow.binary()).buffers()[1:]
    parquet.write_table(pyarrow.table({"text": pyarrow.StringArray.from_buffers(1, *latin)}), path)
    with pytest.raises(UserError, match=r"a.parquet must have strings of UTF-8, got the byte 0xe9 in b'caf.xe9'"):
        read_columns(path, TEXT)


def test_a_damaged_parquet_and_an_absent_column(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(FEW, path)
    with pytest.raises(UserError, match=r"got 'label'. There are \['n', 'text'\]"):
        read_columns(path, {"label": "data.label"})
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="got one that is damaged"):
        read_columns(path)
    with pytest.raises(UserError, match="got no file"):
        read_columns(tmp_path / "b.csv")
