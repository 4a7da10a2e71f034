"""The pages of methods and of configs are up to date and complete."""

import dataclasses
import importlib
import re
import sys

import pytest

from conftest import ROOT
from jaxdistill.config import registry, schema
from jaxdistill.metrics import METRICS
from jaxdistill.modules.heads import HEADS
from jaxdistill.networks.model import ModelSettings
from jaxdistill.networks.weightings import WEIGHTINGS
from jaxdistill.train import partitioning

sys.path.insert(0, str(ROOT / "docs"))
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


def test_the_page_of_configs_names_every_word():
    """Keys, sources, kinds of stages, metrics and rules: what can be said is on the page."""
    page = (ROOT / "docs" / "config.md").read_text()
    words = {
        *registry.names("network"),
        *registry.names("kind"),
        *METRICS,
        *registry.names("merge_rule"),
        *WEIGHTINGS,
        *HEADS,
    }
    words |= {*ModelSettings.__dataclass_fields__, *partitioning.SETS}
    sections = (schema.StageSettings, schema.DataConfig, schema.EvaluateConfig, schema.CacheConfig, schema.MergeConfig)
    sections += (schema.SklearnConfig, schema.CheckpointConfig, schema.PartitionConfig, schema.SubsetConfig)
    words |= {field.name for section in sections for field in dataclasses.fields(section)}
    told = set(re.findall(r"\w+", page))
    assert words - told - {""} == set()
