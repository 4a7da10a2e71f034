"""The command `jaxdistill`: its words, its mistakes, and where each command goes."""

import errno
import runpy
import subprocess
import sys

import pytest

from jaxdistill import command, configs
from jaxdistill.pipeline import run as pipeline


def ended(monkeypatch, *words):
    """Runs the command in this process; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["jaxdistill", *words])
    for stays in ("preemption.ignore_signals", "garbage.pause"):  # this process has tests to come
        monkeypatch.setattr(f"jaxdistill.runtime.{stays}", lambda: None)
    with pytest.raises(SystemExit) as caught:
        command.run()
    return caught.value.code


@pytest.mark.parametrize(
    ("words", "launched"),
    [
        (["digits/kd", "--workdir", "a"], ["--config=digits/kd", "--workdir", "a"]),
        (["--workdir", "a", "digits/kd:smoke"], ["--workdir", "a", "--config=digits/kd:smoke"]),
        (["--config.batch", "64", "--profile", "x.py"], ["--config.batch", "64", "--profile", "--config=x.py"]),
        (["--config", "x.py", "--workdir=a"], ["--config", "x.py", "--workdir=a"]),
    ],
)
def test_the_first_bare_word_is_the_config(words, launched):
    assert command.launch_words("run", words) == launched
    assert command.launch_words("plan", words) == [*launched, "--plan"]


def test_run_names_a_config_and_takes_the_flags_of_the_launcher(tmp_path, monkeypatch):
    calls = []

    def record(stages, workdir, **_):
        workdir.mkdir()
        calls.append((stages, workdir))

    monkeypatch.setattr(pipeline, "run", record)
    monkeypatch.chdir(tmp_path)
    assert ended(monkeypatch, "run", "digits/kd:smoke", "--workdir", "a", "--config.batch=32") == 0
    [(stages, workdir)] = calls
    assert (str(workdir), stages["distil"].batch, stages["distil"].steps) == ("a", 32, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "COMMAND must be a command of jaxdistill, got 'rnu'. Did you mean 'run'?"),
        (["run", "digts/kd", "--workdir", "a"], "got 'digts/kd'. Did you mean 'digits/kd'?"),
        (
            ["run", "digits/kd", "b", "--workdir", "a"],
            "argument must be a flag such as --config.batch=64, got 'b'",
        ),
        (["run", "--workdir", "a"], "no --config"),
        (["configs", "x"], "jaxdistill configs must have no argument, got 'x'. Leave it out"),
        (["completion"], "jaxdistill completion must have one argument, bash or zsh, got []. Name the shell"),
    ],
)
def test_mistakes(words, message, monkeypatch, capsys):
    assert ended(monkeypatch, *words) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("words", [[], ["--help"], ["run"], ["plan", "--help"], ["prepare"], ["export", "-h"]])
def test_usage(words, monkeypatch, capsys):
    assert ended(monkeypatch, *words) == (0 if {"--help", "-h"} & {*words} else 2)
    first = capsys.readouterr().out.splitlines()[0]
    expected = f"jaxdistill {words[0]} " if words[:1] not in ([], ["--help"], ["export"]) else "jaxdistill"
    assert expected in first


def test_the_names_of_configs(monkeypatch, capsys):
    assert ended(monkeypatch, "configs") == 0
    assert capsys.readouterr().out.split() == configs.list_names()


def test_bash_completes_commands_and_configs(monkeypatch, capsys):
    assert ended(monkeypatch, "completion", "bash") == 0
    script = capsys.readouterr().out
    for words, line, expected in (
        ("(jaxdistill pl)", 1, "plan"),
        ("(jaxdistill run digits/k)", 2, "digits/kd"),
        ("(jaxdistill run digits/kd --wo)", 3, "--workdir"),
    ):
        code = f"{script}\nCOMP_WORDS={words}; COMP_CWORD={line}; _jaxdistill; echo ${{COMPREPLY[@]}}"
        assert subprocess.run(["bash", "-c", code], capture_output=True, text=True).stdout.strip() == expected


def test_python_m_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxdistill", "configs"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("jaxdistill", run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out.split() == configs.list_names()


def test_a_failure_of_the_machine_is_one_message(monkeypatch, capsys):
    def fail(error):
        raise error

    monkeypatch.setattr(command, "_find", lambda _: lambda words: fail(words[0]))
    assert command.main(["tokenizer", OSError(errno.ENOSPC, "full", "a/b")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: a/b must be on a disk with space left, got")
    assert line.endswith("Then repeat the command.")
    with pytest.raises(KeyError):
        command.main(["tokenizer", KeyError("x")])
