"""CONTRIBUTING's members are those of the example project, which tests/own_project_test.py installs and runs."""

import re

import pytest

from conftest import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
MEMBERS = ROOT / "examples" / "own_project" / "my_lab"


@pytest.mark.parametrize("name", ["networks", "stages", "tasks", "metrics", "views", "data"])
def test_a_member_on_the_page_is_its_file(name):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert (MEMBERS / f"{name}.py").read_text() in blocks, f"copy examples/own_project/my_lab/{name}.py to the page"


def test_the_glossary_defines_each_term_once():
    table = PAGE.partition("## Glossary")[2]
    terms = [term.strip() for row in re.findall(r"^\| (.+?) \|", table, re.MULTILINE) for term in row.split(",")]
    terms = [term for term in terms if term not in ("term", "---")]
    assert len(terms) >= 40
    assert len(terms) == len({*terms})
