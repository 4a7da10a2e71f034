"""Datasets: the embedded digits, `.npz` files, TFDS without TensorFlow, and what is said when they are not there."""

import numpy as np
import pytest

from jaxdistill.data import datasets
from jaxdistill.errors import UserError
from npz_files import write_images


def test_embedded_sets_of_another_size_and_colour(tmp_path):
    dataset = datasets.load("digits", size=28, channels=3)
    assert dataset.shape == (28, 28, 3)
    for role in ("train", "validation", "test"):
        assert dataset.split(role).take(np.arange(2))["image"].shape == (2, 28, 28, 3)
    stored = datasets.load("digits").split("test").take(np.arange(40))["image"]
    image = dataset.split("test").take(np.arange(40))["image"]
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.mean((1, 2, 3)), stored.mean((1, 2, 3)), atol=6)  # the same scans
    grey = datasets.load("npz", path=write_images(tmp_path), size=4, channels=1)
    assert grey.shape == (4, 4, 1)
    with pytest.raises(UserError, match="data.channels=2 of images with 3"):
        datasets.load("npz", path=write_images(tmp_path), channels=2)


def test_unknown_dataset_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="data.name must be a dataset, got 'cifr10'. Did you mean 'cifar10'"):
        datasets.load("cifr10", data_dir=str(tmp_path))


def test_an_unprepared_dataset_is_refused_with_the_command(tmp_path):
    with pytest.raises(UserError, match=r"mnist is not prepared in .*download_and_prepare.*--config.data.data_dir"):
        datasets.load("mnist", data_dir=str(tmp_path))


def test_missing_data_dir():
    with pytest.raises(UserError, match="no folder '/nowhere'"):
        datasets.load("mnist", data_dir="/nowhere")
