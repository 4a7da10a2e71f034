"""Fingerprints of what a run reads."""

import dataclasses
import pathlib
import types

import numpy as np
import pytest

import runs
from jaxdistill.build import inputs, weights
from jaxdistill.config import load as configs
from jaxdistill.config import references
from jaxdistill.data import build
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run
from jaxdistill.runtime import files
from pretrained_folders import bert_tensors, write_bert


def write(path, changed=()):
    draw = np.random.default_rng(0)
    arrays = {f"{role}_label": np.arange(40) % 4 for role in ("train", "validation", "test")}
    arrays |= {f"{role}_image": draw.integers(0, 256, (40, 4, 4)).astype(np.uint8) for role in ("train", "test")}
    arrays["validation_image"] = arrays["test_image"]
    for name in changed:
        arrays[name] = arrays[name].copy()
        arrays[name].flat[-1] ^= 1
    np.savez(path, **arrays)
    build.forget_datasets()


@pytest.fixture
def stage(tmp_path):
    write(tmp_path / "set.npz")
    flags = ("--config.data.name=npz", f"--config.data.path={tmp_path}/set.npz", "--config.data.labels_per_class=0")
    return run.prepare(configs.load(runs.TINY, flags), tmp_path)["teacher"]


@pytest.mark.parametrize("changed", ["train_image", "train_label", "validation_image"])
def test_data_that_changed_in_place_are_named(stage, tmp_path, changed):
    inputs.verify(stage, tmp_path)
    inputs.verify(stage, tmp_path)
    write(tmp_path / "set.npz", [changed])
    (tmp_path / "teacher").mkdir()
    files.write_json(tmp_path / "teacher" / weights.DONE, {})
    role = changed.partition("_")[0]
    with pytest.raises(UserError, match=f"'teacher' must read .*\n  data, the {role} split of .*set.npz") as error:
        inputs.verify(stage, tmp_path)
    assert len(str(error.value).splitlines()) == 3  # the only input that is named


def test_a_stage_that_is_done_read_the_same_data_and_needs_its_weights_no_more(stage, tmp_path, monkeypatch):
    inputs.verify(stage, tmp_path)
    (tmp_path / "teacher").mkdir()
    files.write_json(tmp_path / "teacher" / weights.DONE, {})
    monkeypatch.setattr(inputs, "_of_weights", lambda *_: pytest.fail("weights were read"))
    inputs.verify(stage, tmp_path, is_done=True)
    write(tmp_path / "set.npz", ["train_label"])
    with pytest.raises(UserError, match="data, the train split"):
        inputs.verify(stage, tmp_path, is_done=True)


def test_a_damaged_record_may_be_removed(stage, tmp_path):
    (tmp_path / inputs.FILE).write_text("{")
    with pytest.raises(UserError, match="inputs.json must be .* Remove it: the next launch records the inputs again"):
        inputs.verify(stage, tmp_path)
    (tmp_path / inputs.FILE).unlink()
    inputs.verify(stage, tmp_path)
    assert files.read_json(tmp_path / inputs.FILE, dict)


def test_data_may_be_mended_before_anything_is_computed_from_them(stage, tmp_path):
    inputs.verify(stage, tmp_path)
    write(tmp_path / "set.npz", ["train_image"])
    inputs.verify(stage, tmp_path)


def test_weights_that_changed_in_place_are_named(stage, tmp_path, monkeypatch):
    digests = {"now": "a"}
    place = types.SimpleNamespace(fingerprint=lambda: digests["now"])
    monkeypatch.setattr(weights, "find", lambda *arguments: place)
    distil = run.prepare(configs.load(runs.TINY), pathlib.Path())["distil"]
    inputs.verify(distil, tmp_path)
    (tmp_path / "teacher").mkdir()
    files.write_json(tmp_path / "teacher" / weights.DONE, {})
    digests["now"] = "b"
    with pytest.raises(UserError, match="\n  weights of network 'teacher' in stage 'distil', stage:teacher\n"):
        inputs.verify(distil, tmp_path)


def test_weights_of_a_finished_stage_that_changed_are_named(stage, tmp_path):
    write_bert(tmp_path / "bert")
    ref = references.parse(f"hf:{tmp_path}/bert")
    stage = types.SimpleNamespace(name="distil", references={"teacher": {"weights": ref}}, runs=stage.runs)
    recorded = inputs._of_weights(stage, tmp_path)
    files.write_json(tmp_path / inputs.FILE, recorded)
    assert inputs.changed_weights(stage, tmp_path) == []
    write_bert(tmp_path / "bert", bert_tensors(seed=1))
    assert inputs.changed_weights(stage, tmp_path) == [*recorded]
    assert "'teacher' in stage 'distil', hf:" in next(iter(recorded))


def test_a_split_that_is_streamed_is_sampled(tmp_path):
    write(tmp_path / "set.npz")
    settings = DatasetSettings("npz", path=str(tmp_path / "set.npz"))
    assert build.fingerprint(settings, "no", "train") != build.fingerprint(settings, "no", "test")
    assert build.fingerprint(dataclasses.replace(settings), "yes", "train").startswith("40 examples, ")
