"""jaxdistill tokenizer FILE ... --size N --out FOLDER: byte-level BPE, trained on texts.

    jaxdistill tokenizer corpus.txt --size 8192 --out tokenizers/corpus
    jaxdistill tokenizer chats.jsonl --column text --column answer --size 8192 --out tokenizers/chats

FILE is text in UTF-8, or has rows (.csv, .tsv, .jsonl, .parquet) of which every --column is read. The folder gets a
`tokenizer.json`, which a config names by `data.tokenizer`; it must have none before. --special adds a token that a text
never becomes by itself, such as "<|im_end|>"; the first of them is token 0. The same files give the same tokenizer.
"""

import itertools
import pathlib
from collections.abc import Iterable, Sequence

from jaxdistill.data.columns import FIRST_ROWS, read_columns
from jaxdistill.data.tokenizers import FILE, open_tokenizer
from jaxdistill.errors import UserError, check_least
from jaxdistill.runtime import files
from jaxdistill.runtime.arguments import Arguments, with_help

SPECIAL = ("<|endoftext|>",)
BYTES = 256


@with_help(__doc__)
def main(words: Sequence[str]) -> int:
    """Trains the tokenizer that the command line describes; returns the exit status.

    Raises:
        UserError: for a missing file or column, and a size without room for bytes.
    """
    parser = Arguments("jaxdistill tokenizer")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--column", action="append", default=[])
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--special", action="append", default=[])
    parser.add_argument("--out", required=True)
    flags = parser.parse_args(list(words))
    paths = [files.local_path("FILE", name) for name in flags.files]
    folder = files.local_path("--out", flags.out)
    identity = train_tokenizer(read_texts(paths, flags.column), flags.size, folder, tuple(flags.special) or SPECIAL)
    print(f"{folder}: {identity}")
    return 0


def read_texts(paths: Sequence[pathlib.Path], columns: Sequence[str]) -> Iterable[str]:
    """Yields the lines of text files, and the values of columns.

    Raises:
        UserError: for a missing file or column, another encoding, and a value that is no text.
    """
    for path in paths:
        if not path.is_file():
            raise UserError(f"FILE must be a file, got no file {str(path)!r}. Correct the path")
        if path.suffix.lower() not in FIRST_ROWS:
            yield from _read_lines(path)
            continue
        if not columns:
            raise UserError(f"--column must be set for the rows of {path}, got none. Name a column of texts")
        values = read_columns(path, dict.fromkeys(columns, "--column"))
        for name in columns:
            for position, value in enumerate(values[name]):
                if not isinstance(value, str):
                    raise UserError(f"--column must be of texts, got {value!r:.60} in {name!r}, row {position + 1}")
                yield value


def _read_lines(path: pathlib.Path) -> Iterable[str]:
    with path.open(encoding="utf-8", newline="") as file:
        try:
            yield from file
        except UnicodeDecodeError as error:
            raise UserError(f"{path} must be UTF-8, got another encoding ({error}). Convert it by iconv") from error


def train_tokenizer(texts: Iterable[str], size: int, folder: pathlib.Path, special: Sequence[str] = SPECIAL) -> str:
    """Trains byte-level BPE and writes `tokenizer.json`; returns the identity.

    Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016,
    https://arxiv.org/abs/1508.07909; on bytes as Radford et al., GPT-2, 2019. Every text has tokens, since every byte
    has one.

    Args:
        texts: to train on.
        size: the number of tokens, `special` ones included.
        folder: of the file.
        special: tokens that a text never becomes by itself, from 0 on.

    Raises:
        UserError: for a size without room for bytes, an empty token, texts without any character, a folder that holds a
            tokenizer, and if the library is missing.
    """
    check_least("--size", size, BYTES + len(special))
    if "" in special:
        raise UserError("--special must be a token, got ''. Write its text, or leave it out")
    if (folder.exists() and not folder.is_dir()) or (folder / FILE).exists():
        raise UserError(f"--out must be a folder without {FILE}, got {str(folder)!r}. Name another, or remove it")
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise UserError(
            f"--size must have the library tokenizers, got {error}. pip install 'jaxdistill[text]'"
        ) from error
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(_require_text(texts), trainer)
    files.write_text(folder / FILE, library.to_str(pretty=True) + "\n")
    return open_tokenizer(str(folder), "--out").identity


def _require_text(texts: Iterable[str]) -> Iterable[str]:
    """Returns all texts; raises `UserError` if none has a character other than a space."""
    texts, first = iter(texts), []
    for text in texts:
        first.append(text)
        if text.strip():
            return itertools.chain(first, texts)
    raise UserError("FILE must have text, got none. Name a file with texts to train on")
