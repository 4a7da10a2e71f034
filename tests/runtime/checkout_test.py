"""Checkouts of code: the commit, the diff, and what git does not have."""

import json
import subprocess

import pytest

from jaxdistill.runtime import checkout
from jaxdistill.runtime.workdir import claim_workdir


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout with one commit, in which a command starts."""
    folder = tmp_path.resolve() / "project"
    folder.mkdir()
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a@b")
    (folder / "model.py").write_text("width = 1\n")
    (folder / "src").mkdir()
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    monkeypatch.chdir(folder / "src")
    return folder


def launches(workdir):
    with claim_workdir(workdir, {"seed": 0}, lambda existing, config: []):
        return json.loads((workdir / "environment.json").read_text())


def test_a_run_records_the_commit_and_the_diff_of_the_users_checkout(project):
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True).stdout.strip()
    [first] = launches(project / "runs" / "a")  # the workdir is no part of the code
    assert first["project"] == {"folder": str(project), "commit": commit, "untracked": []}
    (project / "model.py").write_text("width = 2\n")
    (project / "new.py").write_text("")
    _, second = launches(project / "runs" / "a")
    diff = second["project"].pop("diff")
    assert second["project"] == {"folder": str(project), "commit": commit, "untracked": ["new.py"]}
    assert "-width = 1\n+width = 2\n" in (project / "runs" / "a" / diff).read_text()
    assert first["commit"] != commit  # ours


def test_outside_of_a_checkout_there_is_no_project(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert checkout.find_root(tmp_path) is None
    assert "project" not in launches(tmp_path / "run")[0]


def test_a_package_in_an_environment_of_the_project_has_no_commit(project, monkeypatch):
    monkeypatch.setattr("jaxdistill.runtime.workdir.__file__", str(project / "src" / "jaxdistill" / "runtime" / "x.py"))
    [launch] = launches(project / "a")
    assert (launch["commit"], launch["project"]["folder"]) == ("unknown", str(project))


def test_before_the_first_commit_there_is_none_and_without_git_no_checkout(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "new.py").write_text("")
    state = checkout.read_checkout(tmp_path)
    assert state is not None
    assert (state.commit, state.diff, state.untracked, state.title) == ("", b"", ("new.py",), "none+")
    monkeypatch.setenv("PATH", "")
    assert checkout.read_checkout(tmp_path) is checkout.find_root(tmp_path) is None


def test_a_long_diff_is_cut(project, monkeypatch):
    monkeypatch.setattr(checkout, "LONGEST", 20)
    (project / "model.py").write_text("x" * 1000)
    workdir = project.parent / "run"
    text = (workdir / launches(workdir)[0]["project"]["diff"]).read_text()
    assert text.startswith("diff --git")
    assert "bytes in all" in text
    assert len(text) < 80
