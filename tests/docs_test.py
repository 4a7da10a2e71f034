"""The page of methods is what the files say."""

import importlib
import re
import sys

import pytest

from conftest import ROOT
from jaxdistill.build import networks
from jaxdistill.config import defaults, registry
from jaxdistill.metrics import METRICS, TOKEN_METRICS
from jaxdistill.networks.ensemble import WEIGHTINGS
from jaxdistill.stages import merge_rules
from jaxdistill.train import partitioning

sys.path.insert(0, str(ROOT / "docs"))
methods = importlib.import_module("methods")


def test_a_docstring_is_taken_apart():
    text = "Title.\n\nAuthors,\nhttps://x.y\n\n    loss = a\n\n    a = b\n\nProse.\n\nMore.\n\nElsewhere: differ."
    assert methods.parts(text) == {
        "title": "Title.",
        "citation": "Authors,\nhttps://x.y",
        "formula": "loss = a\n\na = b",
        "prose": "Prose.\n\nMore.",
        "elsewhere": "differ.",
    }


def test_needs_are_read_off_the_class_and_what_it_creates():
    assert methods.needs("cross_entropy") == ["labels"]
    assert methods.needs("kd") == ["a teacher"]
    assert methods.needs("fitnet") == ["a teacher", "taps `stage2`", "params of its own"]
    assert methods.needs("dkd") == ["a teacher", "labels"]


@pytest.mark.slow
def test_the_page_is_what_the_files_say():
    written, page = (ROOT / "docs" / "methods.md").read_text(), methods.page()
    assert written == page, "run python docs/methods.py"
    for name in registry.names("method"):
        assert f"### `{name}`" in page


def test_the_page_of_configs_names_every_word():
    """Keys, sources, kinds of stages, metrics and rules: what can be said is on the page."""
    page = (ROOT / "docs" / "config.md").read_text()
    words = {
        *networks.SOURCES,
        *registry.names("kind"),
        *METRICS,
        *TOKEN_METRICS,
        *merge_rules.RULES,
        *WEIGHTINGS,
        *networks.HEADS,
    }
    words |= {*networks.OF_A_NETWORK, *partitioning.SETS}
    sections = ("data", "evaluate", "cache", "classifier", "merge", "checkpoint")
    for key, value in defaults.DEFAULTS.items():
        words |= {key} | (set(value) if key in sections else set())
    for key in ("partition", "subset", "noise", "splits"):
        words |= set(defaults.DEFAULTS["data"][key])
    told = set(re.findall(r"\w+", page))
    assert words - told - {""} == set()
