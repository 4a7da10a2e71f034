"""Prompts with answers and chats in the rows of files."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

import jaxdistill
from jaxdistill.data import datasets
from jaxdistill.data.dataset import AnswerSettings
from jaxdistill.errors import UserError
from jaxdistill.tasks import find
from runs import lines
from tokenizer_files import write_unigram, write_wordpiece

ROWS = [
    {"question": "2+2=", "answer": "4", "hint": "two and two: 2+2="},
    {"question": "3+30=", "answer": "33", "hint": "="},
]


def write(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def load(path, text="question", **options):
    keys = {"answer": "answer", "end": "\n"} | options.pop("answers", {})
    return datasets.load(
        "answers",
        **{"path": path, "text": text, "length": 8, "splits": {"train": "[:]"}} | options,
        answers=AnswerSettings(**keys),
    )


def test_prompts_with_answers_as_bytes(tmp_path):
    dataset = load(write(tmp_path / "a.jsonl", ROWS))
    batch = dataset.split("train").take(np.arange(2))
    assert bytes(batch["tokens"][0].astype(np.uint8)) == b"2+2=4\n\0\0"
    assert batch["answer_mask"].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1]]
    assert batch["token_mask"].tolist() == [[1] * 6 + [0] * 2, [1] * 8]
    assert (dataset.vocabulary, dataset.tokenizer, dataset.of_bytes) == (256, "bytes", True)
    assert dataset.cut_texts == {"train": (0, 2)}
    assert load(str(tmp_path / "a.jsonl"), length=7).cut_texts == {"train": (1, 2)}
    assert find(dataset).__name__ == "LanguageModel"


def test_packed_rows_have_the_masks_of_their_texts(tmp_path):
    dataset = load(write(tmp_path / "a.jsonl", ROWS), length=16, packing=True)
    batch = dataset.split("train").take(np.arange(1))
    assert bytes(batch["tokens"][0].astype(np.uint8)) == b"2+2=4\n3+30=33\n\0\0"
    assert batch["document"][0].tolist() == [1] * 6 + [2] * 8 + [0] * 2
    assert batch["answer_mask"][0].tolist() == [0] * 4 + [1] * 2 + [0] * 5 + [1] * 3 + [0] * 2


def test_chats_by_parquet_and_json_lines(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    chats = [[{"role": "user", "content": "good"}, {"role": "assistant", "content": "film"}]] * 2
    parquet.write_table(pyarrow.table({"chat": chats}), tmp_path / "a.parquet")
    lines = write(tmp_path / "a.jsonl", [{"chat": chat} for chat in chats])
    answers = {"messages": "chat", "answer": "", "end": "", "template": "plain"}
    for path in (str(tmp_path / "a.parquet"), lines):
        batch = load(path, "", answers=answers, length=64).split("train").take(np.arange(1))
        text, learned = (batch[name][0] for name in ("tokens", "answer_mask"))
        assert bytes(text.astype(np.uint8)).rstrip(b"\0") == b"user: good\nassistant: film\n"
        assert bytes(text[learned > 0].astype(np.uint8)) == b"film\n"


def test_a_teacher_reads_other_prompts_or_tokens(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS)
    batch = load(path, answers={"teacher_text": "hint"}, length=20).split("train").take(np.arange(1))
    assert bytes(batch["teacher_tokens"][0].astype(np.uint8)) == b"two and two: 2+2=4\n\0"
    for prefix in ("", "teacher_"):
        learned = batch[f"{prefix}tokens"][batch[f"{prefix}answer_mask"] > 0]
        assert bytes(learned.astype(np.uint8)) == b"4\n"
    texts = write(tmp_path / "b.jsonl", [{"question": "good ", "answer": "film"}])
    words, pieces = write_wordpiece(tmp_path / "words"), write_unigram(tmp_path / "pieces")
    dataset = load(texts, tokenizer=words, teacher_tokenizer=pieces, answers={"end": ""})
    batch = dataset.split("train").take(np.arange(1))
    assert batch["tokens"][0].tolist() == [2, 5, 6, 3, 0, 0, 0, 0]
    assert batch["teacher_tokens"][0].tolist() == [3, 4, 1, 0, 0, 0, 0, 0]
    assert batch["teacher_answer_mask"][0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert (dataset.vocabulary, dataset.teacher_vocabulary) == (15, 7)


MISTAKES = [
    ({"answers": {"answer": ""}}, "data.answer must be the name of a column, got ''"),
    ({"text": ""}, "data.text must be the name of a column"),
    ({"answers": {"messages": "chat"}}, "data.text must be '' with data.messages, got 'question'"),
    ({"answers": {"template": "plain"}}, "data.template must be '' without data.messages"),
    ({"answers": {"answer": "anwser"}}, r"got 'anwser'. Did you mean 'answer'\?"),
    ({"length": 1}, "data.length must be at least 2"),
    ({"label": "hint"}, "data.label must be '' for 'answers'"),
    ({"splits": {"train": "[:]", "test": "[:20%]"}}, "data.splits.test must have at least one text"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_mistakes(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        load(write(tmp_path / "a.jsonl", ROWS), **options)


def test_a_row_without_an_answer_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", [*ROWS, {"question": "1+1=", "answer": "", "hint": ""}])
    with pytest.raises(UserError, match="row 3 of .*a.jsonl must have an answer with tokens, got '1.1='"):
        load(path, answers={"end": ""})
    (tmp_path / "b.jsonl").write_bytes(b'{"question": "\xff", "answer": "a"}\n')
    with pytest.raises(UserError, match="b.jsonl must be UTF-8, got the byte 0xff in line 1"):
        load(str(tmp_path / "b.jsonl"))


@pytest.mark.slow
def test_a_run_on_packed_rows_takes_a_decoder_alone(tmp_path):
    rows = [{"question": f"{number}+1=", "answer": str(number + 1)} for number in range(60)]
    data = {"name": "answers", "path": write(tmp_path / "a.jsonl", rows), "text": "question", "answer": "answer"}
    student = {"source": "trained", "model": "decoder", "layers": 1, "width": 8, "heads": 2, "length": 24}
    config = {
        "batch": 8,
        "steps": 2,
        "data": data | {"end": "\n", "length": 24, "packing": True},
        "networks": {"student": student},
        "terms": {"task": {"method": "cross_entropy"}},
        "evaluate": {"metrics": ("nll", "exact_match")},
        "stages": {"alone": {}},
    }
    jaxdistill.run(ConfigDict(config), tmp_path / "run", log=lambda line: None)
    last = lines(tmp_path / "run")[-1]
    assert 0 < next(value for name, value in last.items() if name.endswith("nll")) < 6
    config["networks"]["student"] = {"source": "trained", "model": "bag_of_embeddings", "width": 8}
    with pytest.raises(UserError, match="data.packing must be False with network 'student'"):
        jaxdistill.run(ConfigDict(config), tmp_path / "other", log=lambda line: None)
