"""A layer does not reach over another, files stay small, and nothing pulls in TensorFlow."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "jaxdistill"
FILES = sorted(PACKAGE.rglob("*.py"))

EVERYWHERE = {"errors"}
ALLOWED = {
    "errors": set(),
    "products": set(),
    "core": {"products"},
    "losses": {"core"},
    "modules": {"core", "losses"},
    "methods": {"core", "losses", "modules"},
    "models": {"core", "products"},
    "metrics": {"core", "losses", "modules"},
    "data": {"config", "core", "runtime"},
    "merging": {"core"},
    "compress": {"config", "core", "merging", "runtime"},
    "generation": {"config", "core", "networks"},
    "networks": {"compress", "config", "core", "modules"},
    "pretrained": {"core", "data", "models", "modules", "networks", "runtime"},
    "export": {"compress", "config", "core", "data", "modules", "networks", "pretrained", "runtime"},
    "export/__main__": {"pipeline", "runtime"},
    "tasks": {"config", "core", "data", "losses", "metrics", "modules", "networks"},
    "train": {"config", "core", "networks", "runtime", "trackers"},
    "trackers": {"config", "runtime"},
    "config": {"configs", "runtime"},
    "configs": set(),
    "conformance": {
        "build",
        "compress",
        "config",
        "core",
        "data",
        "metrics",
        "modules",
        "networks",
        "runtime",
        "tasks",
        "train",
    },
    "build": {
        "compress",
        "config",
        "core",
        "data",
        "generation",
        "metrics",
        "modules",
        "networks",
        "pretrained",
        "runtime",
        "tasks",
        "train",
    },
    "stages": {
        "build",
        "compress",
        "config",
        "core",
        "data",
        "export",
        "generation",
        "losses",
        "merging",
        "metrics",
        "modules",
        "networks",
        "runtime",
        "tasks",
        "train",
    },
    "estimate": {"runtime", "train"},
    "pipeline": {
        "build",
        "config",
        "core",
        "data",
        "estimate",
        "export",
        "metrics",
        "networks",
        "runtime",
        "stages",
        "train",
    },
    "report": {"config", "runtime", "train"},
    "runtime": set(),
    "launch": {"config", "pipeline", "report", "runtime"},
    "compare": {"config", "report", "runtime"},
    "sweep": {"compare", "config", "runtime"},
    "scaling": {"compare", "config", "report", "runtime"},
    "__main__": {"command"},
    "command": {"compare", "configs", "conformance", "data", "launch", "pipeline", "runtime", "scaling", "sweep"},
    "library": {"config", "export", "pipeline", "report", "runtime"},
    "__init__": {"core", "data", "library", "networks", "pipeline", "scaling", "tasks", "train"},
}
"""room -> the rooms it may import."""


def layer(path):
    """A command in a room, which calls what is above it, is a layer of its own."""
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    return name if name in ALLOWED else name.partition("/")[0]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(path):
    own = layer(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("jaxdistill.")}
    reached = ours - ALLOWED[own] - EVERYWHERE - {own}
    assert not reached, f"{path.name} ({own}) must not import {sorted(reached)}"
    theirs = {name.split(".")[0] for name in imports(path)}
    assert not theirs & {"tensorflow", "torch", "pickle"}
    if own == "data":
        assert "flax" not in theirs


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_sizes(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"


def test_every_module_has_a_docstring():
    assert [path for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_nothing_imports_tensorflow_and_a_run_imports_only_what_it_uses():
    names = [".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in FILES if p.stem != "__init__"]
    heavy = ["tensorflow", "torch", "tensorflow_datasets", "matplotlib", "sklearn", "grain", "PIL"]
    code = "\n".join(["import sys", *(f"import {name}" for name in names)])
    code += f"\nprint([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
