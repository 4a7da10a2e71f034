"""Tokenizers from the files of a checkpoint, by the library `tokenizers`.

A folder has `tokenizer.json`; or `vocab.txt`, WordPiece as BERT's; or `vocab.json` and `merges.txt`, byte-level BPE as
GPT-2's and, with `<s>` and `</s>`, RoBERTa's. Special tokens, and the segments of a pair, are those of the file's
post-processor. A text of more than `length` tokens, special ones included, loses its last ones; a pair loses the last
of its longer part, one by one.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdistill.data import spellings
from jaxdistill.data.spilled import ArrayWriter
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
CHUNK = 4096
"""Texts that are encoded at once: the library's results take a hundred times the memory of their tokens."""

BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BYTE_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>")
MASKS = ("[MASK]", "<mask>")
"""Names of the token that stands for a hidden one."""

Rules = dict[str, Any]
"""The content of a `tokenizer.json`."""


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Texts as tokens, one text after another.

    Attributes:
        token: int32 `[tokens]`.
        segment: the part of a pair, int8 `[tokens]`.
        word: the position in its text of the first token of the token's word, int32 `[tokens]`; -1 for special tokens.
        starts: the position of each text's first token and the end of the last, int64 `[texts + 1]`.
        bytes: the first and the last byte, exclusive, of each token in its answer, int64 `[tokens, 2]`, as
            `data.spans` counts them; `None` for texts without answers.
    """

    token: np.ndarray
    segment: np.ndarray
    word: np.ndarray
    starts: np.ndarray
    bytes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """The number of tokens of each text, int32 `[texts]`."""
        return np.diff(self.starts).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A tokenizer of a checkpoint.

    Attributes:
        library: the `tokenizers.Tokenizer`.
        identity: a digest of its vocabulary and rules (`identify`).
        vocabulary: the number of tokens, from 0 to the largest.
        mask_token: the token that stands for a hidden one; -1 if it has none.
    """

    library: Any
    identity: str
    vocabulary: int
    mask_token: int

    @functools.cached_property
    def is_byte_level(self) -> bool:
        """Whether its tokens are bytes, each as a character."""
        return spellings.is_byte_level(self._rules)

    @functools.cached_property
    def spellings(self) -> list[Any]:
        """The bytes of each token; the token itself if its spaces are not kept, and `None` for a number of none."""
        added = {token["id"]: token for token in self._rules.get("added_tokens") or ()}
        spelled: list[Any] = [None] * self.vocabulary
        for name, token in self.library.get_vocab(with_added_tokens=True).items():
            if token not in added:
                spelled[token] = spellings.spell(name, self._rules)
            else:
                spelled[token] = ("special", name) if added[token]["special"] else name.encode()
        return spelled

    @functools.cached_property
    def written(self) -> list[bytes | None]:
        """The bytes that each token writes, special ones in a text their names; `None` if its spelling has none."""
        texts = [spelling[1].encode() if isinstance(spelling, tuple) else spelling for spelling in self.spellings]
        return [text if isinstance(text, bytes) else None for text in texts]

    @functools.cached_property
    def byte_counts(self) -> np.ndarray:
        """The number of bytes of `written`, -1 for none."""
        return np.array([-1 if text is None else len(text) for text in self.written], np.int64)

    @functools.cached_property
    def _rules(self) -> Rules:
        return json.loads(self.library.to_str())

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, length: int) -> Tokens:
        """Returns texts, or pairs of them, as at most `length` tokens each.

        Raises:
            UserError: for a length without room for a token beside the special ones.
        """
        special = self.library.num_special_tokens_to_add(pairs is not None)
        if length <= special:
            raise UserError(
                f"data.length must be above {special}, the number of special tokens of a text, got {length}. Increase"
                " it"
            )
        self.library.enable_truncation(length, strategy="longest_first")
        writers = [ArrayWriter() for _ in range(4)]
        for start in range(0, len(texts), CHUNK):
            items = texts[start : start + CHUNK]
            items = items if pairs is None else [*zip(items, pairs[start : start + CHUNK], strict=True)]
            for writer, part in zip(writers, self._encode_chunk(items), strict=True):
                writer.append(part)
        token, segment, word, counts = (writer.finish() for writer in writers)
        return Tokens(token, segment, word, np.concatenate([[0], np.cumsum(counts)]))

    def _encode_chunk(self, items: Sequence[Any]) -> tuple[np.ndarray, ...]:
        encoded = self.library.encode_batch(items)
        token = np.array([token for text in encoded for token in text.ids], np.int32)
        segment = np.array([segment for text in encoded for segment in text.type_ids], np.int8)
        numbers = np.array([-1 if w is None else w for text in encoded for w in text.word_ids], np.int32)
        part = np.array([-1 if s is None else s for text in encoded for s in text.sequence_ids], np.int32)
        counts = np.array([len(text.ids) for text in encoded], np.int64)
        return token, segment, _first_tokens(numbers, part, counts), counts


def check_unicode(text: str, place: str) -> None:
    """Raises `UserError` for a text that is no Unicode; `place` describes its row."""
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a pair of UTF-16
        raise UserError(f"{place} must be Unicode, got half of a surrogate pair ({error}). Correct the row") from error


def _first_tokens(numbers: np.ndarray, part: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the position in its text of the first token of each token's word; -1 for special tokens.

    Args:
        numbers: of the word in its part of the text, [tokens].
        part: of the text, [tokens].
        counts: of tokens by text.
    """
    begins = np.repeat(np.cumsum(counts) - counts, counts)
    position = np.arange(len(numbers))
    is_first = (position == begins) | (np.diff(numbers, prepend=-2) != 0) | (np.diff(part, prepend=-2) != 0)
    first = np.maximum.accumulate(np.where(is_first, position, 0)) - begins
    return np.where((numbers >= 0) & (part >= 0), first, -1).astype(np.int32)


def open_tokenizer(name: str, key: str = "data.tokenizer") -> Tokenizer:
    """Opens a tokenizer.

    Args:
        name: a folder, `hf:FOLDER`, or a file in the form of `tokenizer.json`.
        key: the key that holds it, for messages.

    Raises:
        UserError: for missing or damaged files, and if the library is missing.
    """
    rules = read_rules(name, key)
    try:
        from tokenizers import Tokenizer as Library
    except ImportError as error:
        raise UserError(
            f"{key} must have the library tokenizers, got {error}. pip install 'jaxdistill[text]'"
        ) from error
    try:
        library = Library.from_str(json.dumps(rules))
    except Exception as error:  # the library raises Exception itself
        raise UserError(f"{key} must be a tokenizer, got {name!r}, which tokenizers refuses ({error})") from error
    library.no_padding()
    vocabulary = library.get_vocab(with_added_tokens=True)
    mask = next((vocabulary[token] for token in MASKS if token in vocabulary), -1)
    return Tokenizer(library, identify(rules), max(vocabulary.values()) + 1, mask)


def identity(name: str, key: str = "data.tokenizer") -> str:
    """Returns the identity of a tokenizer from its files alone (`identify`).

    Raises:
        UserError: for missing or damaged files.
    """
    rules = read_rules(name, key)
    try:
        return identify(rules)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{key} must be a tokenizer, got {name!r} of another form ({error}). Take {FILE}") from error


def read_rules(name: str, key: str = "data.tokenizer") -> Rules:
    """Returns the content of a folder's `tokenizer.json`, or what its vocabulary and settings amount to.

    Raises:
        UserError: for missing or damaged files.
    """
    path = files.input_path(key, name.removeprefix("hf:"))
    if path.is_file():
        return _read_json(key, path, ("model",))
    if not path.is_dir():
        raise UserError(f"{key} must be a folder or a {FILE}, got no file {name!r}. Correct the path")
    if (path / FILE).is_file():
        return _read_json(key, path / FILE, ("model",))
    settings = read_settings(name, key)
    if (path / "vocab.txt").is_file():
        return _wordpiece(_read_text(key, path / "vocab.txt"), settings)
    if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
        vocabulary = _read_json(key, path / "vocab.json")
        return _byte_level(vocabulary, _read_text(key, path / "merges.txt"), settings)
    names = sorted(file.name for file in path.iterdir())[:12]
    raise UserError(
        f"{key} must be a folder with {FILE}, vocab.txt, or vocab.json and merges.txt, got {name!r} with {names}."
        " Save it by transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )


def read_settings(name: str, key: str = "data.tokenizer") -> Rules:
    """Returns the content of a folder's `tokenizer_config.json`; nothing for a folder without it, and for a file.

    Raises:
        UserError: for a damaged file.
    """
    path = files.input_path(key, name.removeprefix("hf:")) / SETTINGS
    return _read_json(key, path) if path.is_file() else {}


def _read_text(key: str, path: pathlib.Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{key} must have UTF-8 in {path}, got another encoding ({error})") from error


def _read_json(key: str, path: pathlib.Path, needed: Sequence[str] = ()) -> Rules:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{key} must have JSON in {path}, got a damaged file ({error}). Restore it") from error
    missing = [name for name in needed if not isinstance(value, dict) or not isinstance(value.get(name), dict)]
    if missing or not isinstance(value, dict):
        raise UserError(f"{key} must have an object with {[*needed]} in {path}, got other JSON. Take {FILE}")
    return value


def _added(vocabulary: dict[str, int], names: Sequence[str]) -> list[dict[str, Any]]:
    plain = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    return [
        {"id": vocabulary[name], "content": name, "lstrip": name == "<mask>", **plain}
        for name in sorted({*names} & {*vocabulary}, key=vocabulary.__getitem__)
    ]


def _wordpiece(lines: list[str], settings: Rules) -> Rules:
    """Returns BERT's rules: Devlin et al., https://github.com/google-research/bert, tokenization.py."""
    vocabulary = {line.removesuffix("\r"): number for number, line in enumerate(lines)}
    missing = [name for name in ("[UNK]", "[CLS]", "[SEP]") if name not in vocabulary]
    if missing:
        raise UserError(f"vocab.txt must have the tokens {missing} of WordPiece, got none. Take {FILE} instead")
    ids = {name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    first = [_special("[CLS]", 0), _sequence("A", 0), _special("[SEP]", 0)]
    return {
        "added_tokens": _added(vocabulary, BERT_TOKENS),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": settings.get("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": first,
            "pair": [*first, _sequence("B", 1), _special("[SEP]", 1)],
            "special_tokens": ids,
        },
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }


def _special(name: str, segment: int) -> Rules:
    return {"SpecialToken": {"id": name, "type_id": segment}}


def _sequence(name: str, segment: int) -> Rules:
    return {"Sequence": {"id": name, "type_id": segment}}


def _byte_level(vocabulary: dict[str, int], merges: list[str], settings: Rules) -> Rules:
    """Returns the rules of GPT-2 (Radford et al., 2019) or, with `<s>` and `</s>`, of RoBERTa (Liu et al., 2019)."""
    prefix = settings.get("add_prefix_space", False)
    level = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": True}
    processor: Rules | None = None
    if "<s>" in vocabulary and "</s>" in vocabulary:
        ends = {"sep": ["</s>", vocabulary["</s>"]], "cls": ["<s>", vocabulary["<s>"]]}
        processor = {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": prefix}
    return {
        "added_tokens": _added(vocabulary, BYTE_TOKENS),
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": processor,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocabulary,
            "merges": [line for line in merges if line.strip() and not line.startswith("#version")],
        },
    }


def identify(rules: Rules) -> str:
    """Returns the kind of rules, their number of tokens, and a digest of all that determines tokens.

    Files of the same tokenizer in other forms, or of another version of the library, have the same.
    """
    model = rules["model"]
    entries = model.get("vocab") or {}
    vocabulary = (
        dict(entries) if isinstance(entries, dict) else {name: number for number, (name, _) in enumerate(entries)}
    )
    vocabulary |= {token["content"]: token["id"] for token in rules.get("added_tokens") or ()}
    merges = [merge.split(" ") if isinstance(merge, str) else [*merge] for merge in model.get("merges") or ()]
    kind = model.get("type") or ("BPE" if merges else "WordPiece")  # old files have no type
    processor = rules.get("post_processor") or {}
    adds_nothing = processor.get("type") == "ByteLevel" or processor.get("special_tokens") == {}
    facts = [
        [kind, sorted(vocabulary.items()), merges, None if isinstance(entries, dict) else entries],
        {key: model.get(key) or None for key in ("unk_token", "unk_id", "continuing_subword_prefix", "byte_fallback")},
        [_without_offsets(rules.get(part)) for part in ("normalizer", "pre_tokenizer")],
        {} if adds_nothing else _without_offsets(processor),
    ]
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return f"{kind} {len(vocabulary)} {hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def _without_offsets(rule: Any) -> Any:
    """Returns a rule without keys that change the places of tokens in a text, and no token."""
    if isinstance(rule, dict):
        return {name: _without_offsets(value) for name, value in rule.items() if name != "trim_offsets"}
    return [_without_offsets(value) for value in rule] if isinstance(rule, list) else rule
