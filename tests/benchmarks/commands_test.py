"""Every script of the benchmarks is on their page, with its command."""

import re

from conftest import ROOT

HERE = ROOT / "benchmarks"


def test_every_script_is_on_the_page_with_its_command():
    commands = set(re.findall(r"python benchmarks/((?:studies/)?\w+\.py)", (HERE / "README.md").read_text()))
    runnable = {str(path.relative_to(HERE)) for path in HERE.rglob("*.py") if "__main__" in path.read_text()}
    assert runnable <= commands
    assert all((HERE / command).is_file() for command in commands)
