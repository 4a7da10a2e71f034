"""Headlines of four classes made of 60 words: an embedded set of labelled texts for trying things out."""

import functools

import numpy as np

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.tokenized_texts import TokenizedTexts
from jaxdistill.data.tokenizers import BERT_TOKENS, Tokens
from jaxdistill.errors import UserError, check_least

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
WORDS = tuple(
    words.split()
    for words in (
        "minister troops election border treaty embassy rebels parliament ceasefire refugees",
        "coach season striker league innings medal playoffs goal tournament champion",
        "shares profit merger investors oil dollar earnings retailer bank tariff",
        "software satellite browser chip researchers virus telescope patent network robot",
        "the a of in to after over new as with amid for on and week plan first old big late",
    )
)
"""Words of each class, and of all of them."""

VOCABULARY = (*BERT_TOKENS, *(word for words in WORDS for word in words))
ROWS = {"train": 2400, "validation": 300, "test": 300}
LONGEST = 22
"""The number of tokens of the longest headline, [CLS] and [SEP] included; the shortest has 7."""

OF_CLASS, OF_OTHERS = 0.25, 0.12
"""Probabilities of a word to be of the headline's class, or of another one; the others are of all."""


def read(settings: DatasetSettings) -> Dataset:
    """Returns texts of 5 to 20 words, a token each, between [CLS] and [SEP]; cut to `length` tokens.

    They are drawn by NumPy's legacy generator, whose stream is frozen across versions.

    Raises:
        UserError: for a tokenizer, and for a length without room for a word.
    """
    settings.check_no_path()
    settings.check_no_splits()
    if settings.tokenizer or settings.teacher_tokenizer:
        raise UserError(
            "data.tokenizer must be '' for 'headlines', whose words are tokens, got"
            f" {settings.tokenizer or settings.teacher_tokenizer!r}. Remove it"
        )
    length = settings.length or LONGEST
    check_least("data.length", length, 3)
    splits = {role: TokenizedTexts(*_draw(role, length), length) for role in ROWS}
    return Dataset(
        splits,
        CLASSES,
        (length,),
        len(VOCABULARY),
        tokenizer="headlines",
        mask_token=BERT_TOKENS.index("[MASK]"),
    )


@functools.cache
def _draw(role: str, length: int) -> tuple[Tokens, np.ndarray]:
    draw = np.random.RandomState([*ROWS].index(role))
    label = draw.randint(0, len(CLASSES), ROWS[role]).astype(np.int32)
    starts = np.cumsum([len(BERT_TOKENS), *map(len, WORDS)])
    begin, end = BERT_TOKENS.index("[CLS]"), BERT_TOKENS.index("[SEP]")
    texts = []
    for own_class in label:
        count = draw.randint(5, LONGEST - 1)
        wrong_class = (own_class + draw.randint(1, len(CLASSES), count)) % len(CLASSES)
        kind = draw.choice(3, count, p=[OF_CLASS, OF_OTHERS, 1 - OF_CLASS - OF_OTHERS])
        group = np.choose(kind, [np.full(count, own_class), wrong_class, np.full(count, len(CLASSES))])
        words = starts[group] + (draw.randint(0, 1 << 20, count) % (starts[group + 1] - starts[group]))
        texts.append([begin, *words[: length - 2], end])
    token = np.concatenate(texts).astype(np.int32)
    counts = np.array([len(text) for text in texts])
    ends = np.cumsum(counts)
    word = np.arange(len(token)) - np.repeat(ends - counts, counts)
    word = np.where(token < len(BERT_TOKENS), -1, word).astype(np.int32)
    return Tokens(token, np.zeros(len(token), np.int8), word, np.concatenate([[0], ends])), label
