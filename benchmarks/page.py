"""Puts what the scripts wrote to `benchmarks/results/` into the tables of `benchmarks/README.md`.

    python benchmarks/page.py

Between `<!-- results: NAME.json -->` and `<!-- end -->` comes what that file says, and that it was not measured where
there is no such file.
"""

import importlib
import json
import pathlib
import re
import sys
from typing import Any

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
timing = importlib.import_module("timing")

NOTHING = "Not measured yet."


def filled(text: str, folder: pathlib.Path) -> str:
    """Returns the page with every table as the files in a folder have it."""

    def one(found: re.Match) -> str:
        path = folder / found[1]
        told = section(json.loads(path.read_text())) if path.exists() else NOTHING
        return f"<!-- results: {found[1]} -->\n{told}\n<!-- end -->"

    return re.sub(r"<!-- results: (\S+) -->\n.*?<!-- end -->", one, text, flags=re.DOTALL)


def section(said: dict[str, Any]) -> str:
    """Writes the tables of one file, and under what conditions they were measured."""
    parts = [f"{title}:\n\n{timing.table(rows)}" for title, rows in said["tables"].items()]
    parts += [f"```text\n{said['printed'].strip()}\n```"] if "printed" in said else []
    about = said["conditions"] | {k: v for k, v in said.items() if isinstance(v, str | int | float) and k != "printed"}
    return "\n\n".join([*parts, f"Measured: {'; '.join(f'{name} {value}' for name, value in about.items())}."])


def main() -> None:
    path = HERE / "README.md"
    path.write_text(filled(path.read_text(), HERE / "results"))


if __name__ == "__main__":
    main()
