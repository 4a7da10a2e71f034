"""Defaults of a kind of stage."""

import pathlib

import pytest

from jaxdistill.build.kind import Kind
from jaxdistill.build.weights import DONE


def test_a_kind_saves_and_measures_nothing_unless_it_overrides_that(stages):
    kind, stage = Kind(), stages["distil"]
    assert (kind.saved(stage), kind.initialised(stage), kind.measured(stage), kind.pairs(stage, "")) == ([], [], [], [])
    assert kind.template(stage, "student") == "student"
    assert kind.inputs(stage) == [("train", False, ["student", "teacher", "slow"])]
    assert kind.split(stage) == ("validation", 360)


def test_a_stage_is_done_once_its_file_exists(stages, tmp_path):
    assert not Kind().is_done(stages["distil"], tmp_path)
    (tmp_path / "distil").mkdir()
    (tmp_path / "distil" / DONE).write_text("{}")
    assert Kind().is_done(stages["distil"], tmp_path)


def test_a_subclass_must_implement_run_and_a_header_if_it_stores_outputs(stages):
    class Idle(Kind):
        pass

    with pytest.raises(NotImplementedError, match="Idle must implement run"):
        Idle().run(stages["distil"], pathlib.Path(), print, 0)
    with pytest.raises(NotImplementedError, match="Idle writes no cache"):
        Idle().cache_header(stages["distil"])
