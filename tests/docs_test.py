"""The pages of methods and of configs are up to date and complete."""

import dataclasses
import importlib
import re
import sys

import pytest

from conftest import ROOT
from jaxdistill.config import registry
from jaxdistill.metrics import METRICS
from jaxdistill.networks.model import ModelSettings

sys.path.insert(0, str(ROOT / "docs"))
config = importlib.import_module("config")
methods = importlib.import_module("methods")


def test_parts_of_a_docstring():
    text = "Title.\n\nAuthors,\nhttps://x.y\n\n    loss = a\n\n    a = b\n\nProse.\n\nMore.\n\nElsewhere: differ."
    assert methods.parse_docstring(text) == {
        "title": "Title.",
        "citation": "Authors,\nhttps://x.y",
        "formula": "loss = a\n\na = b",
        "prose": "Prose.\n\nMore.",
        "elsewhere": "differ.",
    }


def test_needs_follow_from_the_class_and_its_variables():
    assert methods.list_needs("cross_entropy") == ["labels"]
    assert methods.list_needs("kd") == ["a teacher"]
    assert methods.list_needs("fitnet") == ["a teacher", "taps `stage2`", "params"]
    assert methods.list_needs("dkd") == ["a teacher", "labels"]


def test_changed_missing_and_stale_pages_are_outdated(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "ROOT", tmp_path)
    monkeypatch.setattr(methods, "FOLDER", tmp_path)
    for name in ("current", "changed", "stale"):
        (tmp_path / f"{name}.md").write_text(name)
    texts = {tmp_path / f"{name}.md": text for name, text in {"current": "current", "changed": "", "new": ""}.items()}
    assert methods.outdated(texts) == ["changed.md", "new.md", "stale.md"]


@pytest.mark.slow
def test_the_pages_of_methods_are_up_to_date():
    texts = methods.pages()
    assert methods.outdated(texts) == [], "run python docs/methods.py"
    assert {path.stem for path in texts} == {"methods", *registry.names("method")}


def test_the_page_of_config_keys_is_up_to_date():
    assert config.PAGE.read_text() == config.page(), "run python docs/config.py"


def test_the_page_of_config_keys_has_every_key_and_source():
    words = set(re.findall(r"\w+", config.page()))
    kinds = config.kinds_settings().values()
    sections = {*kinds, *(section for kind in kinds for _, section in config.sections(kind))}
    keys = {field.name for section in sections for field in dataclasses.fields(section)}
    keys |= {*ModelSettings.__dataclass_fields__}
    assert {*keys, *registry.names("network"), *registry.names("kind"), *METRICS} - words == set()


@pytest.mark.parametrize("guide", sorted((ROOT / "docs" / "guides").glob("*.md")), ids=lambda path: path.stem)
def test_links_of_guides_lead_to_files_and_chapters(guide):
    for link in re.findall(r"\]\(([^)]+)\)", guide.read_text()):
        if not link.startswith("https://"):
            file, _, anchor = link.partition("#")
            target = guide.parent / file
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert target.exists(), link
            assert anchor in ["", *anchors], link
