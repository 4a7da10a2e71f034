"""The words of the project: programs do not say, tell, speak, ask, know, like or look."""

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

from conftest import ROOT

VERBS = re.compile(
    r"\b(says?|said|saying|tells?|told|telling|speaks?|spoken?|speaking|asks?|asked|asking|knows?|knew|known|knowing"
    r"|likes|liked|looks?|looked|looking)\b",
    re.IGNORECASE,
)
RIDDLES = re.compile(r"(What|Which|Who|Where|How|Those)\b")
PARTICIPLES = ("said", "told", "spoken", "asked", "known", "looked", "held", "made", "found", "kept")
PRONOUNS = ("own", "other", "one", "each", "several", "there", "beside")
NOT_NAMES = frozenset([*PARTICIPLES, *PRONOUNS])
"""A value is a noun, and a function a verb and a noun."""

SOURCES = sorted(path for room in ("jaxdistill", "configs", "docs", "examples") for path in (ROOT / room).rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def title(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def verbs(text: str) -> list[str]:
    """Returns the lines of a text with a forbidden verb; parts of identifiers count as words."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{number}: {line.strip()}" for number, line in lines if VERBS.search(line.replace("_", " "))]


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yields every name that a file gives to something, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def test_each_rule_finds_an_example_of_what_it_forbids():
    assert verbs("a\nit says so\nwas_told = 1\na look_up") == ["2: it says so", "3: was_told = 1", "4: a look_up"]
    assert verbs("likely, unlike, the same like=, lookup, an essay") == []
    tree = ast.parse('def found(each, x):\n    """What it is."""\n    known = x\n')
    assert {name for name, _ in identifiers(tree)} & NOT_NAMES == {"found", "each", "known"}
    assert [bool(RIDDLES.match(text)) for text in docstrings(tree)] == [False, True]


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=title)
def test_no_forbidden_verb(path):
    assert verbs(path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=title)
def test_names_are_nouns_or_verb_and_noun(path):
    bare = [f"{line}: {name}" for name, line in identifiers(ast.parse(path.read_text())) if name in NOT_NAMES]
    assert bare == []


@pytest.mark.parametrize("path", SOURCES, ids=title)
def test_no_docstring_opens_with_a_riddle(path):
    assert [text for text in docstrings(ast.parse(path.read_text())) if RIDDLES.match(text)] == []
