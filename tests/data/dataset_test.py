"""A dataset: its splits, fields and settings."""

import numpy as np
import pytest

from jaxdistill.config import load as configs
from jaxdistill.data import datasets
from jaxdistill.data.dataset import Arrays, Dataset, DatasetSettings, NoiseSettings, check_finite
from jaxdistill.errors import UserError


def test_role_that_is_not_there():
    with pytest.raises(UserError, match="split must be an existing name, got 'tset'. Did you mean 'test'"):
        datasets.load("digits").split("tset")


def test_fields_have_the_shapes_and_dtypes_of_an_example():
    images = Arrays(np.zeros((3, 4, 5, 1), np.uint8), np.arange(3, dtype=np.int32))
    dataset = Dataset({"train": images}, ("a", "b", "c"), (4, 5, 1))
    assert dataset.fields == {"image": ((4, 5, 1), np.uint8), "label": ((), np.int32)}
    assert (dataset.classes, dataset.example_bytes) == (3, 20)
    texts = datasets.load("arithmetic", length=8)
    assert (texts.classes, texts.example_bytes) == (256, 32)


def test_settings_are_those_of_a_section():
    section = configs.stages(
        {"data": {"name": "noise", "size": 4, "noise": {"count": 5, "classes": 3}, "splits": {"test": "test[:9]"}}}
    )["train"].data
    settings = DatasetSettings.of(section, length=7)
    assert (settings.name, settings.size, settings.length) == ("noise", 4, 7)
    assert settings.noise == NoiseSettings(count=5, classes=3)
    assert dict(settings.splits) == {"train": "", "validation": "", "test": "test[:9]"}
    assert hash(settings) == hash(DatasetSettings.of(section, length=7))
    with pytest.raises(UserError, match="data.splits must be left out for 'noise', which has its own, got {'test': "):
        settings.check_no_splits()
    assert DatasetSettings.of(configs.stages({"data": {"name": "digits"}})["train"].data).splits == ()


@pytest.mark.parametrize("name", ["digits", "arithmetic", "headlines", "noise", "wine", "mnist"])
def test_a_file_is_refused_by_datasets_that_read_none(name):
    with pytest.raises(UserError, match=f"data.path must be left out for '{name}', which reads no file, got 'a.csv'"):
        datasets.load(name, path="a.csv")


def test_examples_that_are_not_finite_are_named_by_their_index():
    image = np.zeros((4, 2, 2, 1))
    check_finite(image, np.arange(10, 14), "x")
    image[[1, 3], 0, 0] = np.nan
    with pytest.raises(UserError, match="x is not finite in 2 of 4 examples, the first at index 11"):
        check_finite(image, np.arange(10, 14), "x")
