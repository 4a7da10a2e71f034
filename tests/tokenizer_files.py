"""Files of small tokenizers in the forms of checkpoints."""

import json
import pathlib

WORDPIECE = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("good", "film", "bad", "un", "##watch", "##able", ",", "the", "é", "##s"),
)
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
PIECES = (*"abdfgilmo,", "Ġ", "oo", "goo", "good", "Ġg", "Ġgood", "fi", "lm", "film", "Ġfilm")
MERGES = ("o o", "g oo", "goo d", "Ġ good", "f i", "l m", "fi lm", "Ġ film")


def write_wordpiece(folder: pathlib.Path, words=WORDPIECE, **settings) -> str:
    """Writes a vocabulary of BERT, lower case by default."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


def write_byte_level(folder: pathlib.Path, pieces) -> str:
    """Writes the vocabulary and the merges of GPT-2 or, with `SPECIAL` pieces, of RoBERTa."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    return str(folder)


def write_unigram(folder: pathlib.Path) -> str:
    """Writes a `tokenizer.json` of SentencePiece's kind, with `</s>` at the end."""
    scores = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁good", -1.0], ["▁film", -1.5], ["▁", -3.0], ["s", -3.0]]
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    rules = {
        "version": "1.0",
        "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": scores, "byte_fallback": False},
    }
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    return str(folder)
