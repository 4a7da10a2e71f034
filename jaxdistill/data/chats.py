"""Chats as texts: messages with roles, by the template of a tokenizer, in Jinja2's sandbox.

A template is that of a checkpoint, as transformers renders it: `chat_template` of `tokenizer_config.json`, a string or
a list of named ones of which "default" is taken, or the file `chat_template.jinja`. It gets `messages`,
`add_generation_prompt`, and the special tokens of `tokenizer_config.json`. An answer is what rendering a message of the
assistant adds to the text up to its beginning.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdistill.data.tokenizers import read_settings
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files

if TYPE_CHECKING:
    import jinja2

ROLES = ("assistant", "system", "tool", "user")
ASSISTANT = "assistant"

TEMPLATES = {
    "chatml": (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "plain": (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    ),
}
"""Templates by name: OpenAI's ChatML, and a line for each message."""

FILE = "chat_template.jinja"
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclasses.dataclass(frozen=True)
class AnsweredText:
    """A text with answers.

    Attributes:
        text: the prompts and answers together.
        answers: the first and the last character, exclusive, of each answer, ascending.
    """

    text: str
    answers: tuple[tuple[int, int], ...]


Render = Callable[[Sequence[Mapping[str, Any]], bool], str]
"""`(messages, add_generation_prompt) -> text`."""


def open_template(name: str, tokenizer: str) -> Render:
    """Opens a template.

    Args:
        name: one of `TEMPLATES`, a file of Jinja2, or "" for that of the tokenizer.
        tokenizer: folder of the tokenizer; "" for none.

    Raises:
        UserError: for a missing template, another encoding than UTF-8, and a template that Jinja2 cannot read.
    """
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    settings = read_settings(tokenizer) if tokenizer else {}
    try:
        template = environment.from_string(_find_text(name, tokenizer, settings))
    except jinja2.TemplateError as error:
        raise UserError(f"data.template must be a template of Jinja2, got {name!r} ({error}). Correct it") from error
    tokens = {key: value.get("content") if isinstance(value, dict) else value for key, value in settings.items()}
    return functools.partial(_render, template, {key: tokens.get(key) or "" for key in SPECIAL})


def _find_text(name: str, tokenizer: str, settings: Mapping[str, Any]) -> str:
    """Returns the text of a template."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    if name:
        path = files.input_path("data.template", name)
        if not path.is_file():
            raise unknown("data.template", name, TEMPLATES, "a file or an existing template")
        return _read_template(path)
    folder = files.input_path("data.tokenizer", tokenizer.removeprefix("hf:")) if tokenizer else pathlib.Path()
    if tokenizer and (folder / FILE).is_file():
        return _read_template(folder / FILE)
    template = settings.get("chat_template")
    if isinstance(template, list):
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
    if not isinstance(template, str):
        raise UserError(
            f"data.template must be set for a tokenizer without a chat_template, got '' and tokenizer {tokenizer!r}."
            f" Take one of {[*TEMPLATES]}, or a file"
        )
    return template


def _read_template(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} must be UTF-8, got the byte {error.object[error.start]:#04x}. Convert it, for example: iconv -f"
            " WINDOWS-1252 -t UTF-8"
        ) from error


def _render(
    template: "jinja2.Template", tokens: Mapping[str, str], messages: Sequence[Mapping[str, Any]], prompt: bool
) -> str:
    return template.render(messages=messages, add_generation_prompt=prompt, **tokens)


def render_chat(messages: Any, render: Render, place: str) -> AnsweredText:
    """Returns a chat as a text, whose answers are the messages of the assistant.

    Args:
        messages: dictionaries with `role` and `content`, in order.
        render: of the template.
        place: describes the row in an error.

    Raises:
        UserError: for messages of another form, and for a template that renders earlier messages otherwise once
            others follow.
    """
    _check_messages(messages, place)
    try:
        text = render(messages, False)
        answers = []
        for number, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            before, after = render(messages[:number], True), render(messages[: number + 1], False)
            if not (text.startswith(after) and after.startswith(before)):
                raise UserError(
                    f"data.template must render earlier messages in one way, got one that changes message {number} of"
                    f" {place}. Set data.template='chatml'"
                )
            answers.append((len(before), len(after)))
    except UserError:
        raise
    except Exception as error:  # a template may raise anything
        raise UserError(f"{place} must have messages that the template takes, got {error}. Correct the row") from error
    return AnsweredText(text, tuple(answers))


def _check_messages(messages: Any, place: str) -> None:
    """Raises `UserError` for messages of another form than a list of dictionaries with a role and a content."""
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{place} must have a list of messages, got {messages!r:.60}. Correct the row")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise UserError(f"{place} must have messages with 'role' and 'content', got {message!r:.60}. Correct it")
        if message.get("role") not in ROLES:
            raise unknown(f"the role of a message in {place}", message.get("role"), ROLES, "a role")
