"""Segmentation as whole runs: a cache under augmentation that moves pixels, and its mistakes."""

import pathlib

import numpy as np
import pytest

import runs
from jaxdistill.config import load
from jaxdistill.data import datasets
from jaxdistill.data.dataset import DenseSettings
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "cached_masks.py")


def make_config(folder, **data):
    """Returns the config on a few shapes in an .npz."""
    shapes = datasets.load("shapes", size=32, dense=DenseSettings("masks"))
    arrays = {"class_names": np.array(shapes.class_names)}
    for role in ("train", "validation"):
        for name, array in shapes.split(role).take(np.arange(16)).items():
            arrays[f"{role}_{name}"] = array
    np.savez(folder / "shapes.npz", **arrays)
    config = load.read(CONFIG)
    config["data"] |= {"path": str(folder / "shapes.npz")} | data
    return config


@pytest.mark.slow
def test_a_cached_teacher_teaches_pixels_as_a_live_one(tmp_path):
    run.run(load.stages(make_config(tmp_path)), tmp_path / "run")
    lines = runs.lines(tmp_path / "run")
    live, read = (
        [line["loss"] for line in lines if line["stage"] == name and "loss" in line] for name in ("live", "read")
    )
    assert len(live) == 4
    np.testing.assert_allclose(read, live, rtol=1e-4)
    for name, expected in runs.weights(tmp_path / "run", "live", 4).items():
        if name in (weights := runs.weights(tmp_path / "run", "read", 4)):
            np.testing.assert_allclose(weights[name], expected, rtol=1e-3, atol=1e-5)


def test_a_cache_is_of_images_of_one_size(tmp_path):
    config = make_config(tmp_path, augment=("crop:16,24",))
    config["cache"]["splits"] = ("train", "validation")
    with pytest.raises(UserError, match=r"cache.splits must be \('train',\) if data.augment changes the size"):
        run.prepare(load.stages(config), tmp_path / "run")


def test_a_mosaic_is_not_cached(tmp_path):
    config = make_config(tmp_path, augment=("mosaic",))
    with pytest.raises(UserError, match="stage 'cache' caches outputs for one image, and 'mosaic' makes one of"):
        run.prepare(load.stages(config), tmp_path / "run")
