"""Tokenizers trained on texts: the same again, every text whole, and mistakes."""

import json

import pytest

from jaxdistill.data.tokenizers import open_tokenizer
from jaxdistill.data.train_tokenizer import main, read_texts, train_tokenizer
from jaxdistill.errors import UserError

TEXTS = ["the cat sat on the mat\n", "the cat ate\n"] * 20


def test_frequent_words_become_tokens_and_any_text_is_whole(tmp_path):
    identity = train_tokenizer(TEXTS, 280, tmp_path / "a", ("<|end|>",))
    assert train_tokenizer(TEXTS, 280, tmp_path / "b", ("<|end|>",)) == identity
    tokenizer = open_tokenizer(str(tmp_path / "a"))
    assert tokenizer.vocabulary <= 280
    text = "the cat é 日本\n<|end|>"
    encoded = tokenizer.library.encode(text)
    assert encoded.tokens[:2] == ["the", "Ġcat"]
    assert encoded.ids[-1] == 0
    assert tokenizer.library.decode(encoded.ids, skip_special_tokens=False) == text


def test_the_command_reads_files_and_columns(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("".join(TEXTS))
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps({'x': text})}\n" for text in TEXTS))
    for name, columns in (("a.txt", []), ("a.jsonl", ["--column", "x"])):
        assert main([str(tmp_path / name), *columns, "--size", "270", "--out", str(tmp_path / f"{name}.out")]) == 0
    first, second = (line.partition(": ")[2] for line in capsys.readouterr().out.splitlines())
    assert first == second
    assert "BPE 270 " in first
    assert main(["--help"]) == 0


def test_mistakes(tmp_path):
    rows = tmp_path / "a.csv"
    rows.write_text("x,y\na,b\n")
    with pytest.raises(UserError, match="--size must be at least 257"):
        train_tokenizer(TEXTS, 100, tmp_path)
    with pytest.raises(UserError, match="--column must be set for the rows"):
        [*read_texts([rows], [])]
    with pytest.raises(UserError, match="--column, the name of a column, must be one of"):
        [*read_texts([rows], ["z"])]
    with pytest.raises(UserError, match="FILE must be a file"):
        [*read_texts([tmp_path / "absent"], [])]
    (tmp_path / "b.txt").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="b.txt must be UTF-8"):
        [*read_texts([tmp_path / "b.txt"], [])]


def test_nothing_is_replaced_and_an_empty_corpus_trains_nothing(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "corpus.txt").write_text("".join(TEXTS))
    for out in (tmp_path, tmp_path / "corpus.txt"):
        with pytest.raises(UserError, match="^--out must be a folder without tokenizer.json, got"):
            train_tokenizer(TEXTS, 300, out)
    with pytest.raises(UserError, match="--special must be a token, got ''"):
        train_tokenizer(TEXTS, 300, tmp_path / "a", ("",))
    for texts in ([], ["\n", " "]):
        with pytest.raises(UserError, match="FILE must have text, got none"):
            train_tokenizer(texts, 300, tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "tokenizer.json"]
    assert (tmp_path / "tokenizer.json").read_text() == "{}"
