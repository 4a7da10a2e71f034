"""Tokens of answers: the tokens to be learned, and texts that are cut."""

import numpy as np
import pytest

from jaxdistill.data.answers import encode_answers, join_answers
from jaxdistill.data.chats import AnsweredText
from jaxdistill.data.tokenizers import open_tokenizer
from jaxdistill.errors import UserError
from tokenizer_files import PIECES, SPECIAL, write_byte_level, write_unigram, write_wordpiece


def place(role, position):
    return f"{role} row {position}"


def encode(rows, tokenizer=None, length=64, special=True):
    """Returns the tokens and the learned ones of each text."""
    tokens, learned, _ = encode_answers(rows, tokenizer, length, special=special, role="train", place=place)
    parts = [slice(*ends) for ends in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]
    return [(tokens.token[part].tolist(), learned[part].tolist()) for part in parts]


def test_bytes_of_an_answer_are_learned():
    rows = join_answers(["2+2=", "é="], ["4", "ö"], "\n")
    assert encode(rows) == [
        ([*b"2+2=4\n"], [0, 0, 0, 0, 1, 1]),
        ([*"é=ö\n".encode()], [0, 0, 0, 1, 1, 1]),
    ]


def test_special_tokens_are_learned_after_an_answer_alone(tmp_path):
    words = open_tokenizer(write_wordpiece(tmp_path / "words"))
    rows = [AnsweredText("good film bad", ((5, 9),)), AnsweredText("good film", ((5, 9),))]
    assert encode(rows, words) == [([2, 5, 6, 7, 3], [0, 0, 1, 0, 0]), ([2, 5, 6, 3], [0, 0, 1, 1])]
    assert encode(rows[1:], words, special=False) == [([5, 6], [0, 1])]


def test_a_token_of_prompt_and_answer_is_learned(tmp_path):
    """So that no character of an answer is in the prompt."""
    level = open_tokenizer(write_byte_level(tmp_path / "bytes", [*SPECIAL, *PIECES]))
    (tokens, learned), *_ = encode(join_answers(["good "], ["film"], ""), level)
    assert [PIECES[token - len(SPECIAL)] for token in tokens[1:-1]] == ["good", "Ġfilm"]
    assert learned == [0, 0, 1, 1]
    assert encode(join_answers(["goo"], ["d film"], ""), level)[0] == (tokens, [0, 1, 1, 1])
    pieces = open_tokenizer(write_unigram(tmp_path / "pieces"))
    assert encode(join_answers(["good"], [" film"], ""), pieces) == [([3, 4, 1], [0, 1, 1])]


def test_a_long_text_loses_its_prompt_first():
    rows = join_answers(["prompt=", "p=", "="], ["ab", "a long answer", "a long answer"], "")
    assert encode(rows, length=4) == [
        ([*b"t=ab"], [0, 0, 1, 1]),
        ([*b"=a l"], [0, 1, 1, 1]),
        ([*b"=a l"], [0, 1, 1, 1]),
    ]
    ten_megabytes = join_answers(["x" * 10_000_000], ["y" * 3], "")
    assert encode(ten_megabytes, length=5) == [([*b"xxyyy"], [0, 0, 1, 1, 1])]


def test_a_long_chat_keeps_its_first_exchange():
    rows = [
        AnsweredText("p=ab;q=cd;", ((2, 5), (7, 10))),
        AnsweredText("prompt=ab;q=cd;", ((7, 10), (12, 15))),
        AnsweredText("p=ab;", ((2, 5),)),
    ]
    assert encode(rows, length=5) == [
        ([*b"p=ab;"], [0, 0, 1, 1, 1]),
        ([*b"t=ab;"], [0, 0, 1, 1, 1]),
        ([*b"p=ab;"], [0, 0, 1, 1, 1]),
    ]
    assert encode(rows[:1], length=8) == [([*b"p=ab;q=c"], [0, 0, 1, 1, 1, 0, 0, 1])]
    assert encode_answers(rows, None, 5, special=True, role="train", place=place)[2] == 2


MISTAKES = [
    (join_answers(["a"], [""], ""), "train row 0 must have an answer with tokens, got 'a'. Correct or remove the row"),
    (join_answers([""], ["b"], ""), "train row 0 must have a prompt with tokens, got 'b'.* adds a token before"),
    (join_answers(["a"], ["\ud800"], ""), "train row 0 must be Unicode, got half of a surrogate pair"),
]


@pytest.mark.parametrize(("rows", "message"), MISTAKES)
def test_mistakes(rows, message):
    with pytest.raises(UserError, match=message):
        encode(rows)


def test_a_special_token_is_a_prompt(tmp_path):
    words = open_tokenizer(write_wordpiece(tmp_path / "words"))
    (tokens, learned), *_ = encode(join_answers([""], ["good"], ""), words)
    assert (tokens, learned) == ([2, 5, 3], [0, 1, 1])
    assert (
        np.dtype(np.int8)
        == encode_answers(join_answers([""], ["good"], ""), words, 8, special=True, role="train", place=place)[1].dtype
    )
