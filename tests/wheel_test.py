"""An installed wheel: its contents, and the command and the library in an empty folder."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest
import setuptools

from conftest import ROOT
from jaxdistill import configs

CODE = """
import json, numpy, jaxdistill
logits = jaxdistill.load("a", "distilled")(numpy.zeros((3, 8, 8, 1), numpy.uint8))
print(json.dumps([logits.shape, str(logits.dtype), jaxdistill.__file__]))
"""


def test_every_folder_of_code_is_a_package_of_the_wheel(monkeypatch):
    settings = {}
    monkeypatch.setattr(setuptools, "setup", settings.update)
    monkeypatch.chdir(ROOT)
    exec((ROOT / "setup.py").read_text(), {})
    folders = {path.parent for room in ("jaxdistill", "configs") for path in (ROOT / room).rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert {*settings["packages"]} == {f"jaxdistill.{n}" if n.startswith("configs") else n for n in names}
    assert settings["package_dir"] == {"jaxdistill.configs": "configs"}


def test_no_config_imports_a_top_level_package_of_the_checkout():
    texts = {path: path.read_text() for path in configs.FOLDER.rglob("*.py")}
    assert [str(path) for path, text in texts.items() if "from configs" in text or "import configs" in text] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for room in ("jaxdistill", "configs"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*words, str(source)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> pathlib.Path:
    """The folder of the programs of an environment that has the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    words = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*words, "--no-index", str(wheel)], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def ran(installed: pathlib.Path, cwd: pathlib.Path, *words: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "XLA_FLAGS")}
    program = str(installed / words[0])
    return subprocess.run(
        [program, *words[1:]], cwd=cwd, env=environment | {"JAX_NUM_CPU_DEVICES": "1"}, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_wheel_has_one_package_with_the_configs_in_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"jaxdistill"}
    shipped = {name.removeprefix("jaxdistill/") for name in names if name.startswith("jaxdistill/configs/")}
    assert shipped == {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.py")}
    assert "jaxdistill/report/template.html" in names


@pytest.mark.slow
def test_runs_in_an_empty_folder_with_the_wheel(installed, tmp_path):
    for workdir in "ab":
        ended = ran(installed, tmp_path, "jaxdistill", "run", "digits/kd:smoke", "--workdir", workdir)
        assert ended.returncode == 0, ended.stderr
    ended = ran(installed, tmp_path, "jaxdistill", "compare", "a", "b")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("2 runs of one config and the same seeds")
    numbers = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    assert {item["mean"] for item in numbers["differences"]} == {0.0}  # a run is repeated bit for bit
    ended = ran(installed, tmp_path, "python", "-c", CODE)
    assert ended.returncode == 0, ended.stderr
    shape, dtype, file = json.loads(ended.stdout)
    assert (shape, dtype) == ([3, 10], "float32")
    assert pathlib.Path(file).is_relative_to(installed.parent)
    planned = ran(installed, tmp_path, "jaxdistill", "plan", "tables/wine:smoke")
    assert planned.returncode == 0, planned.stderr
