"""Bytes of tokens, and the tokens of two tokenizers that have the same."""

from jaxdistill.data.spans import match_spellings
from jaxdistill.data.tokenizers import open_tokenizer
from tokenizer_files import PIECES, write_byte_level, write_unigram, write_wordpiece


def test_tokens_of_one_spelling(tmp_path):
    level = open_tokenizer(write_byte_level(tmp_path / "level", PIECES))
    unigram = open_tokenizer(write_unigram(tmp_path / "uni"))
    found = match_spellings(unigram, level)  # <pad> </s> <unk> ▁good ▁film ▁ s
    assert found.tolist() == [-1, -1, -1, PIECES.index("Ġgood"), PIECES.index("Ġfilm"), PIECES.index("Ġ"), -1]
    assert match_spellings(level, level).tolist() == [*range(len(PIECES))]
    of_bytes = match_spellings(None, level)
    assert (of_bytes[ord("a")], of_bytes[ord(" ")], of_bytes[ord("z")]) == (0, PIECES.index("Ġ"), -1)
    words = open_tokenizer(write_wordpiece(tmp_path / "words"))
    assert words.spellings[4:7] == [("special", "[MASK]"), "good", "film"]  # without their spaces, which are not kept
    assert max(match_spellings(words, level)) < 0
