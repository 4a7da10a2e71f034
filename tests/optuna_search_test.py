"""The example that searches settings with Optuna."""

import importlib.util
import subprocess
import sys

import pytest

from conftest import ROOT


@pytest.mark.slow
def test_a_search_trains_one_teacher_and_is_continued(tmp_path):
    if importlib.util.find_spec("optuna") is None:
        pytest.skip("optuna is not installed: pip install optuna")
    words = [sys.executable, ROOT / "examples" / "optuna_search.py", "--workdir", "search", "--mode", "smoke"]
    teacher = tmp_path / "search" / "teacher" / "teacher" / "done.json"
    written = []
    for trials in ("2", "1"):
        ended = subprocess.run([*words, "--trials", trials], cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1].startswith("run 00"), ended.stdout
        written.append(teacher.stat().st_mtime_ns)
    assert written[0] == written[1]
    runs = sorted(path.name for path in (tmp_path / "search").iterdir() if path.is_dir())
    assert runs == ["000", "001", "002", "teacher"]
