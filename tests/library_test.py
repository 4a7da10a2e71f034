"""Runs in a program: in threads, several in a process, from nested dicts with classes in them, and their results."""

import inspect
import signal
import sys
import threading
import types

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

import jaxdistill
from jaxdistill import library
from jaxdistill.errors import Interrupted, UserError


def linear(images):
    """A teacher of a user's own."""
    return images[:, 0, :, 0] @ jnp.ones((8, 10))


CONFIG = dict(
    batch=64,
    data=dict(name="digits"),
    networks=dict(student=dict(source="function", function=linear)),
    stages=dict(
        evaluate=dict(kind="evaluate", evaluate=dict(split="validation", metrics=("accuracy",), saliency=False))
    ),
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of a run in a thread, with what was logged, and whether the handlers were those of before."""
    ended, handlers = [], [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def work():
        lines, seen = [], []

        def log(line):
            lines.append(line)
            seen.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers)

        ended.append((jaxdistill.run(ConfigDict(CONFIG), tmp_path_factory.mktemp("runs") / "a", log=log), lines, seen))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.write, "write_report", lambda workdir: (workdir / "report.html").write_text("drawn"))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        yield ended[0]


def test_a_run_in_a_thread_sets_no_handlers_and_returns_its_results(results):
    run, lines, seen = results
    assert seen
    assert all(seen)
    [row] = run.records
    assert run["student"] == row
    assert 0 <= row["accuracy"] <= 1
    assert run.lanes == []
    assert (run.workdir / "report.html").is_file()
    assert "student" in str(run).splitlines()[1]
    assert run._repr_html_().startswith("<div")
    assert any(line.startswith("stage evaluate: ") for line in lines)
    with pytest.raises(UserError, match="Did you mean 'student'"):
        run["studnet"]


def test_a_second_run_of_the_process_finds_the_first_done(results):
    lines = []
    again = jaxdistill.run(CONFIG, str(results[0].workdir), log=lines.append)
    assert again.records == results[0].records
    assert lines == ["stage evaluate: done before"]
    assert jaxdistill.Results.read(again.workdir) == again


def test_a_network_of_the_results_is_loaded(results, monkeypatch):
    monkeypatch.setattr(library.finished, "load", lambda *arguments: arguments)
    assert results[0].load("student") == (results[0].workdir, "student")


def test_stop_ends_a_run(tmp_path):
    with pytest.raises(Interrupted):
        jaxdistill.run(CONFIG, tmp_path / "b", stop=lambda: True)
    assert jaxdistill.Results.read(tmp_path / "b").records == []
    assert "no stage evaluated" in str(jaxdistill.Results.read(tmp_path / "b"))


def test_pandas(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=list))
    assert results[0].to_pandas() == results[0].records
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install 'jaxdistill\[pandas\]'"):
        results[0].to_pandas()


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="workdir must be the folder of a run"):
        jaxdistill.Results.read(tmp_path)


def test_the_names_of_the_package_are_not_its_files():
    assert inspect.isfunction(jaxdistill.run)
    assert inspect.isclass(jaxdistill.Results)
