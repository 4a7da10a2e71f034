"""The data of a stage: shapes of batches, splits, and the loaders."""

import dataclasses

import jax
import numpy as np
import pytest

from cached_runs import prepared
from jaxdistill.data import build, loader


def test_the_device_holds_both_or_neither(tmp_path, monkeypatch):
    from jaxdistill.data import build

    images, answers = 1077 * 64, 1077 * 2 * 40
    monkeypatch.setattr(build, "RESIDENT_LIMIT", images + answers)
    assert prepared(tmp_path / "run")["read"].data.resident
    monkeypatch.setattr(build, "RESIDENT_LIMIT", images + answers - 1)
    assert not prepared(tmp_path / "run")["read"].data.resident


def test_shapes_of_a_raw_and_of_an_augmented_batch(stages):
    data = stages["distil"].data
    shapes = {name: (x.shape, x.dtype) for name, x in data.raw_batch.items()}
    assert shapes["image"] == ((64, 8, 8, 1), np.uint8)
    assert shapes["index"] == shapes["view"] == shapes["label"] == ((64,), np.int32)
    assert data.batch["image"].dtype == np.float32
    assert data.batch["valid"].shape == (64,)
    raw = next(iter(data.batches("validation")))
    assert raw.keys() == data.raw_batch.keys()


def test_an_evaluation_reads_each_example_once_and_training_may_read_a_part(stages):
    data = stages["distil"].data
    batches = list(data.batches("test"))
    assert sum(batch["mask"].sum() for batch in batches) == 360
    assert all(len(batch["mask"]) == data.evaluation_batch_size for batch in batches)
    assert (len(data.base_split("train")), len(data.base_split("test"))) == (1077, 360)


@pytest.mark.parametrize(("limit", "kind"), [(10**9, loader.Resident), (0, loader.Streamed)])
def test_a_split_that_fits_is_resident(stages, monkeypatch, limit, kind):
    monkeypatch.setattr(build, "RESIDENT_LIMIT", limit)
    data = prepared_data(stages["distil"])
    assert isinstance(data.loader(), kind)
    shapes = jax.tree.map(lambda x: x.shape, data.resident_arrays)
    assert shapes == ({"image": (1077, 8, 8, 1), "label": (1077,)} if limit else {})


@pytest.mark.parametrize(("setting", "kind"), [("auto", loader.Streamed), ("yes", loader.Resident)])
def test_a_mapped_split_is_streamed_unless_the_device_is_to_hold_it(stages, monkeypatch, setting, kind):
    stage = stages["distil"]
    monkeypatch.setattr(type(stage.data.dataset.split("train")), "is_mapped", True)
    data = dataclasses.replace(stage.data, settings=dataclasses.replace(stage.data.settings, resident=setting))
    assert isinstance(data.loader(), kind)
    assert data.is_resident("test") == (setting == "yes")


def prepared_data(stage):
    """Returns the data of a stage without cached properties."""
    return dataclasses.replace(stage.data)
