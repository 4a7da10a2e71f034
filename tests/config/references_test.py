"""References to weights: every form is parsed to its parts, and written as it was read."""

import pathlib

import pytest

from jaxdistill.config import references
from jaxdistill.config.members import NetworkConfig
from jaxdistill.config.references import WeightsRef

FOLDER = pathlib.Path("runs/other/teacher")


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("stage:distil", WeightsRef(stage="distil")),
        ("stage:distil#student", WeightsRef(stage="distil", network="student")),
        ("stage:parts@2", WeightsRef(stage="parts", lane=2)),
        ("stage:parts#teacher@2", WeightsRef(stage="parts", network="teacher", lane=2)),
        ("runs/other/teacher", WeightsRef(folder=FOLDER)),
        ("runs/other/teacher#student", WeightsRef(folder=FOLDER, network="student")),
        ("runs/other/teacher#student@0", WeightsRef(folder=FOLDER, network="student", lane=0)),
        ("runs/other/teacher#@3", WeightsRef(folder=FOLDER, lane=3)),
        ("runs/other/teacher@3", WeightsRef(folder=pathlib.Path("runs/other/teacher@3"))),
        ("runs/other/teacher/checkpoints/1200", WeightsRef(folder=FOLDER, step=1200)),
        ("runs/other/teacher/checkpoints/1200#ema", WeightsRef(folder=FOLDER, step=1200, network="ema")),
        ("runs/other/teacher/1200", WeightsRef(folder=FOLDER / "1200")),
    ],
)
def test_a_reference_has_these_parts(text, ref):
    assert references.parse(text) == ref
    assert str(ref) == text


def test_a_home_folder_is_expanded():
    assert references.parse("~/runs/a").folder == pathlib.Path.home() / "runs" / "a"


def test_only_a_cached_network_references_a_cache_and_its_teacher():
    networks = {
        "student": NetworkConfig(options={"teacher": "stage:one", "cache": "stage:two"}),
        "teacher": NetworkConfig("cached", options={"cache": "stage:two", "teacher": "stage:three#big"}),
        "base": NetworkConfig(weights="stage:one"),
    }
    assert references.parse_networks(networks) == {
        "student": {},
        "teacher": {"cache": WeightsRef(stage="two"), "teacher": WeightsRef(stage="three", network="big")},
        "base": {"weights": WeightsRef(stage="one")},
    }
    assert references.stages_read(networks) == ["two", "three", "one"]
