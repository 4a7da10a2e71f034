"""The README: its commands mean something, its example runs, its links lead somewhere."""

import importlib
import pathlib
import re
import shlex

import pytest

from jaxdistill import launch
from pretrained_folders import bert_tensors, write_bert

EXPORT = "--workdir runs/digits --network distilled --format stablehlo"
ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_it_opens_with_the_commands():
    assert blocks("bash")[:3] == [
        "pip install -e . && python -m jaxdistill.launch --config configs/digits/kd.py --workdir runs/digits\n",
        f"python -m jaxdistill.export {EXPORT} --out exports/digits\n",
        "pip install -e '.[test]' && python -m pytest\n",
    ]


def test_every_launch_command_parses(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    bert = write_bert(tmp_path, bert_tensors(layers=6), num_hidden_layers=6)  # MiniLM may not be installed
    monkeypatch.setattr(importlib.import_module("jaxdistill.configs.texts"), "find_minilm", lambda: str(bert))
    found = re.findall(r"python -m jaxdistill\.launch (.+)", README + (ROOT / "launch" / "README.md").read_text())
    assert len(found) >= 3
    for words in found:
        launch.parse(["launch", *shlex.split(words)])


def test_every_script_that_is_named_exists():
    for script in re.findall(r"python ((?:benchmarks|launch)/\S+)", README):
        assert (ROOT / script).is_file()


@pytest.mark.parametrize("page", ["README.md", "launch/README.md"])
def test_links(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_example_runs_and_learns():
    code = next(block for block in blocks("python") if "make_step(networks" in block)
    names = {}
    exec(code, names)
    assert int(names["state"].step) == 20
    assert 0 < float(names["metrics"]["task"]) < 2.4


def test_the_step_and_the_method_are_quoted_as_they_are():
    source = (ROOT / "jaxdistill" / "methods" / "kd.py").read_text()
    for line in next(block for block in blocks("python") if "class KD" in block).splitlines():
        if line.strip() and not line.startswith(("def", "class")):
            assert line in source
