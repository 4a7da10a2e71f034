"""Chats as texts: templates, answers and mistakes."""

import json

import pytest

from jaxdistill.data.chats import open_template, render_chat
from jaxdistill.errors import UserError

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "3+3?"},
    {"role": "assistant", "content": "6"},
]
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] }}"
    " [/INST]{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% else %}"
    "{{ raise_exception('no system message') }}{% endif %}{% endfor %}"
)


def answers_of(chat):
    return [chat.text[start:stop] for start, stop in chat.answers]


@pytest.mark.parametrize(
    ("name", "answers", "start"),
    [
        ("chatml", ["4<|im_end|>\n", "6<|im_end|>\n"], "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+"),
        ("plain", ["4\n", "6\n"], "system: Be brief.\nuser: 2+2?\nassistant: 4\n"),
    ],
)
def test_the_answers_of_a_stated_template(name, answers, start):
    chat = render_chat(CHAT, open_template(name, ""), "row 1")
    assert answers_of(chat) == answers
    assert chat.text.startswith(start)


@pytest.mark.parametrize("form", ["string", "list", "file"])
def test_the_template_of_a_tokenizer(tmp_path, form):
    settings = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    if form == "file":
        (tmp_path / "chat_template.jinja").write_text(LLAMA_2)
    else:
        named = [{"name": "tools", "template": "x"}, {"name": "default", "template": LLAMA_2}]
        settings["chat_template"] = LLAMA_2 if form == "string" else named
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    chat = render_chat(CHAT[1:], open_template("", str(tmp_path)), "row 1")
    assert chat.text == "<s>[INST] 2+2? [/INST] 4</s><s>[INST] 3+3? [/INST] 6</s>"
    assert answers_of(chat) == [" 4</s>", " 6</s>"]
    with pytest.raises(UserError, match="row 7 must have messages that the template takes, got no system message"):
        render_chat(CHAT, open_template("", str(tmp_path)), "row 7")


def test_a_template_cannot_reach_outside_its_sandbox(tmp_path):
    (tmp_path / "t.jinja").write_text("{{ messages.__class__.__mro__ }}")
    with pytest.raises(UserError, match="row 1 must have messages that the template takes, got access"):
        render_chat(CHAT, open_template(str(tmp_path / "t.jinja"), ""), "row 1")


MISTAKES = [
    ([{"role": "asistant", "content": "4"}], r"the role of a message in row 1 must be a role, got 'asistant'. Did you"),
    ([{"role": "user"}], "row 1 must have messages with 'role' and 'content'"),
    ([], "row 1 must have a list of messages"),
    ("hello", "row 1 must have a list of messages, got 'hello'"),
]


@pytest.mark.parametrize(("messages", "message"), MISTAKES)
def test_mistakes_of_messages(messages, message):
    with pytest.raises(UserError, match=message):
        render_chat(messages, open_template("plain", ""), "row 1")


def test_mistakes_of_templates(tmp_path):
    with pytest.raises(UserError, match="data.template must be a file or an existing template, got 'chatlm'. Did you"):
        open_template("chatlm", "")
    with pytest.raises(UserError, match="data.template must be set for a tokenizer without a chat_template"):
        open_template("", str(tmp_path))
    (tmp_path / "bad.jinja").write_text("{% for %}")
    with pytest.raises(UserError, match="data.template must be a template of Jinja2"):
        open_template(str(tmp_path / "bad.jinja"), "")
    (tmp_path / "latin.jinja").write_bytes(b"{{ '\xe9' }}")
    with pytest.raises(UserError, match="latin.jinja must be UTF-8, got the byte 0xe9. Convert it"):
        open_template(str(tmp_path / "latin.jinja"), "")
    (tmp_path / "last.jinja").write_text("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(UserError, match="data.template must render earlier messages in one way"):
        render_chat(CHAT, open_template(str(tmp_path / "last.jinja"), ""), "row 1")
