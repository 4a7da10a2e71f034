"""Noise: a function of seed and index alone, in [0, 1], without labels."""

import numpy as np
import pytest

from jaxdistill.core import UNLABELLED
from jaxdistill.data import datasets
from jaxdistill.data.noise import Noise
from jaxdistill.errors import UserError

SHAPE = (8, 8, 3)


@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
def test_an_image_depends_on_its_seed_and_index_alone(kind):
    made = Noise(SHAPE, 100, kind, seed=3)
    batch = made.take(np.array([7, 99, 7]))
    assert (batch["image"].shape, batch["image"].dtype) == ((3, *SHAPE), np.uint8)
    np.testing.assert_array_equal(batch["image"][0], batch["image"][2])
    np.testing.assert_array_equal(batch["image"][:1], Noise(SHAPE, 8, kind, seed=3).take(np.array([7]))["image"])
    assert (batch["image"][0] != batch["image"][1]).any()
    assert (batch["image"][0] != Noise(SHAPE, 100, kind, seed=4).take(np.array([7]))["image"][0]).any()
    assert (batch["label"] == UNLABELLED).all()
    assert (made.labels() == UNLABELLED).all()
    assert len(made.labels()) == len(made) == 100


def test_distributions():
    values = {kind: Noise(SHAPE, 200, kind).take(np.arange(200))["image"] / 255 for kind in ("uniform", "gaussian")}
    for kind, std in (("uniform", 12**-0.5), ("gaussian", 0.24)):  # clipping takes 0.01 of the 1/4
        np.testing.assert_allclose([values[kind].mean(), values[kind].std()], [0.5, std], atol=0.01)
    share = (values["gaussian"] == 0).mean()
    np.testing.assert_allclose(share, 0.023, atol=0.005)  # beyond two standard deviations


def test_shuffled_images_keep_their_pixels():
    digits = datasets.load("digits").split("train")
    made = Noise((8, 8, 1), 2000, "shuffled", source=digits)
    images, shuffled = digits.take(np.array([5]))["image"], made.take(np.array([5, 5 + 1077]))["image"]
    for one in shuffled:
        np.testing.assert_array_equal(np.sort(one.ravel()), np.sort(images.ravel()))
        assert (one != images[0]).any()
    assert (shuffled[0] != shuffled[1]).any()


def test_invalid_settings_are_refused():
    with pytest.raises(UserError, match="noise.kind must be a kind of noise, got 'unifrom'. Did you mean 'uniform'"):
        Noise(SHAPE, 10, "unifrom")
    with pytest.raises(UserError, match="noise.count must be at least 1 and finite, got 0"):
        Noise(SHAPE, 0)
    with pytest.raises(UserError, match="shuffles the pixels of a set's images; mix it into that set"):
        Noise(SHAPE, 10, "shuffled")
