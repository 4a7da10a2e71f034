"""Every row of docs/config.md is a key that a flag sets."""

import ast
import pathlib
import re

import pytest

from jaxdistill.config import load, overrides
from jaxdistill.errors import UserError

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "config.md"

NETWORKS = {
    "student": {"model": "mlp"},
    "trained": {"source": "trained", "model": "mlp"},
    "frozen": {"source": "frozen", "model": "mlp", "weights": "stage:train"},
    "cached": {"source": "cached", "cache": "stage:cache"},
    "aligned": {"source": "aligned", "of": "frozen"},
    "crossed_head": {"source": "crossed_head", "of": "student"},
    "delayed": {"source": "delayed", "of": "student"},
    "derivative": {"source": "derivative", "of": "student"},
    "ema": {"source": "ema", "of": "student"},
    "ensemble": {"source": "ensemble", "of": ("student", "ema")},
    "function": {"source": "function", "factory": "my_lab:factory"},
    "head": {"source": "head", "of": "student", "tap": "hidden1"},
    "respelled": {"source": "respelled", "of": "frozen"},
    "reused_classifier": {"source": "reused_classifier", "of": "student"},
    "routed": {"source": "routed", "of": ("student", "frozen")},
    "shared": {"source": "shared", "of": "student"},
}
"""A network of each source, by the source."""

STAGES = {
    "train": {"networks": {"student": {}, "trained": {}}, "terms": {"NAME": {"method": "kd"}}},
    "use": {"networks": {name: {} for name in NETWORKS}},
    "cache": {"kind": "cache", "networks": {"frozen": {}}},
    "merge": {"kind": "merge", "networks": {"frozen": {}}},
    "pca": {"kind": "pca", "networks": {"frozen": {}}},
    "sklearn": {"kind": "sklearn", "networks": {}},
    "evaluate": {"kind": "evaluate", "networks": {"frozen": {}}},
}
"""A stage of each kind, by the kind, and one that has all networks."""

CONFIG = {
    "data": {"name": "digits", "mix": {"NAME": {"name": "digits"}}},
    "networks": NETWORKS,
    "optimizer": {"name": "sgd", "groups": {"NAME": {"pattern": "bias", "learning_rate_factor": 0.5}}},
    "stages": STAGES,
}

OWNERS = {"cache": "cache", "merge": "merge", "sklearn": "sklearn", "terms": "train", "checkpoint": "train"}
OWNERS |= {"optimizer": "train", "sweep": "train"}
"""The stages whose kind has a section."""

VALUES = {"text": "'stage:cache'", "name of a network": "'student'", "tuple of names of networks": "('student', 'ema')"}
VALUES |= {"bool": "True", "number": "1.0", "steps": "3", "steps, several": "(3,)"}
"""Values of keys without a default, by the type of the page."""

REQUIRED = {"model": "'mlp'", "method": "'kd'", "pattern": "'bias'", "learning_rate.name": "'constant'"}
"""Values of keys that cannot be empty, by the end of their path."""


def find_section(title):
    """Returns the path of the keys below a heading of the page, and `None` for headings of other tables."""
    kind, source, path = (re.search(pattern, title) for pattern in (r'kind="(\w+)"', r'source="(\w+)"', r"`([\w.]+)`"))
    if kind:
        return f"stages.{kind[1]}."
    if source:
        return f"networks.{source[1]}."
    if title == "A stage":
        return "stages.train."
    if title == "Schedules":
        return "stages.train.learning_rate."
    if path is None:
        return None
    name = path[1].replace("networks.NAME", "networks.trained")
    owner = OWNERS.get(name.partition(".")[0])
    return f"stages.{owner}.{name}." if owner else f"{name}."


def list_rows():
    """Returns (path, type, default) of each row of a key that is no section."""
    section, rows = None, []
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            section = find_section(line.strip("# "))
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if section is None or len(cells) != 7 or not cells[1].startswith("`") or cells[2].startswith("section"):
            continue
        rows.append((section + cells[1].split("`")[1], cells[2], cells[3].strip("`")))
    return rows


ROWS = list_rows()


def test_the_page_has_rows_of_every_section():
    sections = {path.rpartition(".")[0] for path, _, _ in ROWS}
    assert {"stages.train", "networks.frozen", "networks.trained.preprocess", "data.noise", "data.mix.NAME"} <= sections
    assert {f"networks.{name}" for name in NETWORKS} - {"networks.student"} <= sections
    assert len(ROWS) > 160


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_of_the_page_has_a_flag(row):
    path, kind, default = row
    required = (value for end, value in REQUIRED.items() if path.endswith(end))
    text = next(required, VALUES.get(kind, "1.0") if default in ("must be set", "None") else default)
    value = ast.literal_eval(text)
    shown = value if isinstance(value, str) else text
    try:
        load.stages(overrides.apply(CONFIG, [f"--config.{path}={shown}"]))
    except UserError as error:
        alone = path.startswith("stages.train.learning_rate.")  # such as `start`, which is no schedule without `to`
        assert alone, error
        assert "learning_rate must be a" in str(error) or "must have" in str(error), error
