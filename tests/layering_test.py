"""A layer does not reach over another, files stay small, and nothing pulls in TensorFlow."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "jaxdistill"
FILES = sorted(PACKAGE.rglob("*.py"))

EVERYWHERE = {"errors", "order"}
ALLOWED = {
    "errors": set(),
    "order": set(),
    "core": set(),
    "losses": {"core"},
    "adapters": {"losses"},
    "layers": {"core"},
    "next_token": {"core", "losses"},
    "methods": {"adapters", "core", "layers", "losses", "next_token"},
    "models": {"core"},
    "heads": {"adapters", "core"},
    "networks": {"adapters", "compress", "core"},
    "metrics": {"core", "losses", "next_token"},
    "data": {"core"},
    "compress": {"core"},
    "train": {"core", "networks"},
    "registry": set(),
    "defaults": set(),
    "durations": set(),
    "config": {"defaults", "durations", "sweep"},
    "cast": {"core", "data", "heads", "networks", "registry", "train"},
    "stage": {"core", "data", "heads", "metrics", "networks", "train"},
    "caching": {"core", "data", "losses", "networks", "stage", "train", "weights"},
    "classifier": {"caching", "core", "data", "stage"},
    "domain": {"core", "networks", "next_token", "stage"},
    "checks": {"caching", "data", "domain", "merging", "metrics", "networks", "registry", "stage", "sweep", "train"},
    "sweep": set(),
    "lanes": {"core", "data", "networks", "stage", "sweep", "train"},
    "training": {"core", "lanes", "metrics", "reduction", "stage", "train"},
    "reduction": {"core", "metrics", "stage", "train"},
    "components": {"core", "data", "networks", "stage", "train"},
    "merging": {"compress", "core", "data", "metrics", "networks", "stage", "train", "weights"},
    "build": {
        "cast",
        "checks",
        "config",
        "data",
        "defaults",
        "durations",
        "networks",
        "registry",
        "stage",
        "sweep",
        "train",
    },
    "weights": {"core", "environment", "networks", "train"},
    "environment": {"config"},
    "saliency": {"core", "data", "networks", "stage", "train"},
    "results": {"stage", "core", "environment", "networks", "saliency", "train"},
    "pipeline": {
        "build",
        "caching",
        "classifier",
        "components",
        "config",
        "core",
        "data",
        "environment",
        "lanes",
        "merging",
        "metrics",
        "networks",
        "reduction",
        "results",
        "saliency",
        "stage",
        "train",
        "training",
        "weights",
    },
    "plan": {"caching", "core", "data", "lanes", "networks", "pipeline", "results", "stage", "train"},
    "plots": set(),
    "page": set(),
    "table": set(),
    "sections": {"metrics", "page", "plots", "table", "train"},
    "comparisons": {"metrics", "page", "plots", "table"},
    "lane_sections": {"metrics", "page", "plots", "sweep", "table"},
    "report": {"comparisons", "lane_sections", "page", "sections", "table"},
    "processes": set(),
    "splitting": {
        "caching",
        "config",
        "environment",
        "pipeline",
        "stage",
        "sweep",
        "train",
        "training",
        "weights",
    },
    "memory": set(),
    "launch": {"build", "config", "memory", "pipeline", "plan", "processes", "report", "splitting", "table"},
    "__init__": {"core", "networks", "train"},
}
"""layer -> the layers it may import; what is not here is a file that has not found its place."""


def layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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
    heavy = ["tensorflow", "torch", "tensorflow_datasets", "matplotlib", "sklearn", "grain", "PIL", "tensorboardX"]
    code = "\n".join(["import sys", *(f"import {name}" for name in names)])
    code += f"\nprint([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
