"""Noise as a dataset of its own."""

import pytest

from jaxdistill.data import datasets
from jaxdistill.data.dataset import NoiseSettings
from jaxdistill.errors import UserError


def test_size_channels_and_classes_must_be_set():
    noise = NoiseSettings(count=20, classes=3)
    dataset = datasets.load("noise", size=4, channels=1, noise=noise)
    assert (dataset.shape, dataset.classes, {*dataset.splits}) == ((4, 4, 1), 3, {"train"})
    for missing in (dict(size=0), dict(channels=0)):
        with pytest.raises(UserError, match=f"Set data.{next(iter(missing))} to the teacher's"):
            datasets.load("noise", **{"size": 4, "channels": 1, **missing}, noise=noise)
    with pytest.raises(UserError, match="Set data.noise.classes to the teacher's, or mix noise into"):
        datasets.load("noise", size=4, channels=1, noise=NoiseSettings(count=20))
