"""Spans of bytes that two tokenizers share, by hand."""

import numpy as np
import pytest

from jaxdistill.data.answers import encode_answers, join_answers
from jaxdistill.data.chats import AnsweredText
from jaxdistill.data.spans import ANSWER, locate_in_answers, match, number_spans
from jaxdistill.data.tokenizers import open_tokenizer
from tokenizer_files import PIECES, SPECIAL, write_byte_level, write_unigram, write_wordpiece


def ends(*places):
    """Places of tokens that follow one another from byte 0 on."""
    return np.stack([[0, *places[:-1]], places], 1)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (ends(1, 2, 4), ends(1, 2, 4), ([0, 1, 2], [0, 1, 2])),
        (ends(1, 2, 4), ends(2, 3, 4), ([0, 0, 1], [0, 1, 1])),
        (ends(1, 3), ends(2, 4), ([-1, -1], [-1, -1])),  # no common end
        (ends(2, 3, 5), ends(2, 4), ([0, -1, -1], [0, -1])),  # cut before the next common end
        (np.array([[-1, 2], [2, 3]]), ends(1, 2, 3), ([-1, 0], [-1, -1, 0])),  # a token of prompt and answer
        (np.array([[-1, -1], [0, 2]]), ends(2), ([-1, 0], [0])),  # a token of the prompt
    ],
)
def test_spans_end_where_both_do(left, right, expected):
    assert [x.tolist() for x in match(left, right)] == [*expected]


def test_answers_are_apart():
    """The first answer has no common end but the second begins anew."""
    left = np.array([[0, 2], [ANSWER, ANSWER + 1], [ANSWER + 1, ANSWER + 2]])
    right = np.array([[0, 1], [ANSWER, ANSWER + 2]])
    assert [x.tolist() for x in match(left, right)] == [[-1, 0, 0], [-1, 0]]
    row = AnsweredText("é=ab,c", ((2, 4), (5, 6)))
    parts = np.array([[0, 2], [2, 3], [3, 4], [4, 5], [5, 6], [6, 7], [5, 7], [-1, -1]])
    expected = [[-1, -1], [-1, -1], [0, 1], [1, 2], [-1, -1], [ANSWER, ANSWER + 1], [-1, ANSWER + 1], [-1, -1]]
    assert locate_in_answers(parts, row).tolist() == expected


def place(role, position):
    return f"{role} row {position}"


def spans_of(rows, left, right):
    tokens = {
        prefix: encode_answers(rows, tokenizer, 64, special=True, role="train", place=lambda *_: "a row", places=True)[
            0
        ]
        for prefix, tokenizer in {"": left, "teacher_": right}.items()
    }
    return [x.tolist() for x in number_spans(tokens).values()]


def test_texts_of_two_tokenizers(tmp_path):
    """Bytes against merges, and words without their spaces against pieces with them."""
    pieces = open_tokenizer(write_byte_level(tmp_path / "level", [*PIECES, "Ċ"]))
    rows = join_answers(["film"], [" good"], "\n")
    assert spans_of(rows, None, pieces) == [[-1] * 4 + [0] * 5 + [1], [-1, 0, 1]]
    assert spans_of(rows, pieces, pieces) == [[-1, 0, 1], [-1, 0, 1]]
    words, unigram = (
        open_tokenizer(write_wordpiece(tmp_path / "words")),
        open_tokenizer(write_unigram(tmp_path / "uni")),
    )
    rows = join_answers(["good"], [" film good"], "")
    assert spans_of(rows, words, unigram) == [[-1, -1, 0, 1, -1], [-1, 0, 1, -1]]
    assert spans_of(rows, words, None)[1] == [-1] * 4 + [0] * 5 + [1] * 5
    rows = join_answers(["good "], ["film good"], "")  # one side's first token has the prompt's space
    assert spans_of(rows, words, unigram) == [[-1, -1, -1, 0, -1], [-1, -1, 0, -1]]


def test_a_space_that_is_put_behind_a_special_token_moves_no_byte(tmp_path):
    """RoBERTa's rules put a space before each part of a text that special tokens divide."""
    level = tmp_path / "level"
    write_byte_level(level, [*SPECIAL, *PIECES])
    (level / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    rows = join_answers([" good"], ["</s>good film"], "")
    numbers = spans_of(rows, None, open_tokenizer(str(level)))
    assert numbers[0][5:] == [0] * 4 + [1] * 4 + [2] * 5
    assert [n for n in numbers[1] if n >= 0] == [0, 1, 2]


def test_a_character_of_several_tokens_has_its_bytes(tmp_path):
    """Byte-level tokens of é are apart on both sides, so that equal tokenizers match one to one."""
    pieces = open_tokenizer(write_byte_level(tmp_path / "level", [*PIECES, "Ã", "©"]))
    rows = join_answers(["a"], ["éb"], "")
    assert spans_of(rows, pieces, pieces)[0] == [-1, 0, 1, 2]
    assert spans_of(rows, None, pieces) == [[-1, 0, 1, 2], [-1, 0, 1, 2]]
    merged = tmp_path / "merged"
    write_byte_level(merged, ["a", "â", "Ĥ", "¬", "âĤ"])
    (merged / "merges.txt").write_text("#version: 0.2\nâ Ĥ\n")
    euro = open_tokenizer(str(merged))  # two bytes and one
    assert spans_of(join_answers(["a"], ["€"], ""), euro, euro)[0] == [-1, 0, 1]
