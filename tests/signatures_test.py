"""Signatures: every parameter is annotated, and no call has more than four positional arguments."""

import ast
from collections.abc import Iterator

import pytest

from conftest import ROOT

FILES = sorted((ROOT / "jaxdistill").rglob("*.py"))
MOST_POSITIONAL = 4
VARIADIC = {"print", "zip", "max", "min", "map", "reshape", "Path", "joinpath", "chain", "product", "eval_shape"}
"""Functions of any number of arguments of one kind."""


def title(path) -> str:
    return str(path.relative_to(ROOT))


def unannotated(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            parameters += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
            for parameter in parameters:
                if parameter.annotation is None and parameter.arg not in ("self", "cls"):
                    yield f"{node.lineno}: {node.name}({parameter.arg})"


def long_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONAL:
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function not in VARIADIC:
                yield f"{node.lineno}: {ast.unparse(node)[:100]}"


def test_each_rule_finds_an_example_of_what_it_forbids():
    tree = ast.parse("def f(self, a: int, b, *c): f(1, 2, 3, 4, 5); print(1, 2, 3, 4, 5)")
    assert list(unannotated(tree)) == ["1: f(b)", "1: f(c)"]
    assert list(long_calls(tree)) == ["1: f(1, 2, 3, 4, 5)"]


@pytest.mark.parametrize("path", FILES, ids=title)
def test_every_parameter_is_annotated(path):
    assert list(unannotated(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("path", FILES, ids=title)
def test_calls_have_at_most_four_positional_arguments(path):
    assert list(long_calls(ast.parse(path.read_text()))) == []
