"""Prompts with answers, and chats, in the rows of CSV, TSV, JSONL or Parquet files."""

from collections.abc import Sequence

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.answers import encode_answers, join_answers
from jaxdistill.data.chats import AnsweredText, open_template, render_chat
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.labels import Place
from jaxdistill.data.routes import read_routes
from jaxdistill.data.row_files import Columns, read_roles
from jaxdistill.data.spans import match_spellings, number_spans
from jaxdistill.data.spilled import MadeValues
from jaxdistill.data.texts import BYTES
from jaxdistill.data.tokenized_texts import TEACHER, TokenizedTexts, check_texts
from jaxdistill.data.tokenizers import Tokenizer, open_tokenizer
from jaxdistill.errors import UserError, check_least


def read(settings: DatasetSettings) -> Dataset:
    """Returns the tokens of prompts, the column `text`, with their answers, or of chats, the column `messages`.

    Only answers are to be learned: those of the column `answer` and the text `end` after each, or the messages of the
    assistant. Without a tokenizer a token is a byte. `teacher_tokens` are the same texts by `teacher_tokenizer`, or
    have the prompts of `teacher_text`. Large columns and tokens are mapped (`data.spilled`). `row_files.read_roles`
    describes the files, `answers.encode_answers` the tokens.

    Raises:
        UserError: for a missing column, file or template, for a row that cannot be read, and for a text without a
            prompt or without an answer, with its number.
    """
    _check(settings)
    options = settings.answers
    tokenizer = open_tokenizer(settings.tokenizer) if settings.tokenizer else None
    named = {"data.text": settings.text, "data.answer": options.answer, "data.teacher_text": options.teacher_text}
    named = {"data.messages": options.messages} if options.messages else named
    columns, place = read_roles(settings, named | {"data.route": settings.route})
    teacher = _open_teacher(settings)
    splits, cut_texts = {}, {}
    for role, values in columns.items():
        splits[role], cut = _read_split(values, settings, role, place=place, tokenizers=(tokenizer, teacher))
        cut_texts[role] = cut, len(splits[role])
    read_by_teacher = teacher or (tokenizer if options.teacher_text else None)
    reads_bytes = tokenizer is None and bool(options.teacher_text) and teacher is None
    token_map = match_spellings(tokenizer, read_by_teacher) if options.spans else None
    dataset = Dataset(
        splits,
        (),
        (settings.length,),
        tokenizer.vocabulary if tokenizer else BYTES,
        of_bytes=tokenizer is None,
        tokenizer=tokenizer.identity if tokenizer else "bytes",
        teacher_tokenizer=read_by_teacher.identity if read_by_teacher else "bytes" * reads_bytes,
        teacher_vocabulary=read_by_teacher.vocabulary if read_by_teacher else BYTES * reads_bytes,
        keys=("splits.seed",),
        cut_texts=cut_texts,
        token_map=token_map,
    )
    return read_routes(dataset, settings, columns, place)


def _read_split(
    values: Columns,
    settings: DatasetSettings,
    role: str,
    *,
    place: Place,
    tokenizers: tuple[Tokenizer | None, Tokenizer | None],
) -> tuple[TokenizedTexts, int]:
    """Returns the texts of a split, and the number of those that are cut.

    Args:
        values: the columns.
        settings: name them.
        role: of the split.
        place: describes a row in an error.
        tokenizers: the student's, `None` for bytes, and the teacher's, `None` for the student's.
    """
    if not len(next(iter(values.values()))):
        raise UserError(f"data.splits.{role} must have at least one text, got none. Take a larger part")
    options, (tokenizer, teacher) = settings.answers, tokenizers
    texts = {"": (settings.text, tokenizer, settings.tokenizer)}
    if teacher is not None or options.teacher_text:
        reader = teacher or tokenizer
        texts[TEACHER] = (options.teacher_text or settings.text, reader, settings.teacher_tokenizer)
    tokens, answers, cuts = {}, {}, []
    for prefix, (prompt, reader, folder) in texts.items():
        rows = _make_texts(values, prompt, settings, role=role, place=place, folder=folder or settings.tokenizer)
        tokens[prefix], answers[prefix], cut = encode_answers(
            rows,
            reader,
            settings.length,
            special=not options.messages,
            role=role,
            place=place,
            places=options.spans,
        )
        cuts.append(cut)
    split = TokenizedTexts(
        tokens[""],
        np.full(len(tokens[""]), UNLABELLED, np.int32),
        settings.length,
        teacher_tokens=tokens.get(TEACHER),
        answers=answers,
        spans=number_spans(tokens) if options.spans else {},
    )
    return split, max(cuts)


def _open_teacher(settings: DatasetSettings) -> Tokenizer | None:
    name = settings.teacher_tokenizer
    return open_tokenizer(name, "data.teacher_tokenizer") if name else None


def _check(settings: DatasetSettings) -> None:
    """Raises `UserError` for settings that contradict each other, before a file is read."""
    options = settings.answers
    check_least("data.length", settings.length, 2)
    if options.messages:
        others = {"text": settings.text, "answer": options.answer, "end": options.end}
        for key, value in (others | {"teacher_text": options.teacher_text}).items():
            if value:
                raise UserError(f"data.{key} must be '' with data.messages, got {value!r}. Remove the one or the other")
    else:
        for key, value in {"text": settings.text, "answer": options.answer}.items():
            if not value:
                raise UserError(
                    f"data.{key} must be the name of a column, got ''. Name those of prompts and answers in data.text"
                    " and data.answer, or that of chats in data.messages"
                )
        if options.template:
            raise UserError(f"data.template must be '' without data.messages, got {options.template!r}. Remove it")
    if options.spans and not (settings.teacher_tokenizer or options.teacher_text):
        raise UserError(
            "data.spans must be False without tokens of a teacher, got True. Set data.teacher_tokenizer or"
            " data.teacher_text, or leave it out"
        )
    for key in ("pair", "label"):
        if getattr(settings, key):
            raise UserError(f"data.{key} must be '' for 'answers', got {getattr(settings, key)!r}. Remove it")


def _make_texts(
    values: Columns, prompt: str, settings: DatasetSettings, *, role: str, place: Place, folder: str
) -> Sequence[AnsweredText]:
    """Returns the texts of rows.

    Args:
        values: the columns.
        prompt: the column of the prompts.
        settings: with the columns of answers or messages.
        role: of the split.
        place: describes a row in an error.
        folder: of the tokenizer, which may have a template.
    """
    options = settings.answers
    if options.messages:
        render = open_template(options.template, folder)
        chats = values[options.messages]
        return MadeValues(lambda row: render_chat(chats[row], render, place(role, row)), len(chats))
    for name in (prompt, options.answer):
        check_texts(values[name], role, place)
    return join_answers(values[prompt], values[options.answer], options.end)
