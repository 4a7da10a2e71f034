"""Drawn shapes: the same pixels on every machine, and labels that belong to them."""

import hashlib

import numpy as np
import pytest

from jaxdistill.data import datasets
from jaxdistill.data.dataset import DenseSettings
from jaxdistill.data.readers.shapes import SHAPES
from jaxdistill.errors import UserError


def test_pixels_and_labels_are_those_of_every_machine():
    digest = hashlib.sha256()
    for annotations in ("masks", "boxes"):
        dataset = datasets.load("shapes", dense=DenseSettings(annotations))
        for role in ("train", "validation", "test"):
            for name, array in sorted(dataset.split(role).take(np.arange(3)).items()):
                digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    assert digest.hexdigest()[:16] == "52c170db4c8117ce"


def test_a_box_encloses_the_pixels_of_its_shape():
    positions = np.arange(40)
    masks = datasets.load("shapes", dense=DenseSettings("masks"), size=48)
    boxes = datasets.load("shapes", dense=DenseSettings("boxes"), size=48)
    assert (masks.class_names, boxes.class_names) == (("background", *SHAPES), tuple(SHAPES))
    pixels, drawn = (dataset.split("train").take(positions) for dataset in (masks, boxes))
    np.testing.assert_array_equal(pixels["image"], drawn["image"])
    for label_map, corners, labels in zip(pixels["label_map"], drawn["boxes"], drawn["box_label"], strict=True):
        inside = np.zeros(label_map.shape, bool)
        for (top, left, bottom, right), label in zip(np.round(48 * corners).astype(int), labels, strict=True):
            if label < 0:
                assert not corners[labels < 0].any()
                continue
            part = label_map[top:bottom, left:right] == label + 1
            assert part[[0, -1]].any(1).all()
            assert part[:, [0, -1]].any(0).all()
            inside[top:bottom, left:right] |= part
        assert (inside == (label_map > 0)).mean() > 0.995  # a shape of which another covers the middle is in two parts
    assert {*np.unique(pixels["label_map"])} == {*range(6)}


def test_annotations_must_be_chosen():
    with pytest.raises(UserError, match=r"data.annotations must be one of \['masks', 'boxes'\], .* got ''"):
        datasets.load("shapes")


@pytest.mark.parametrize(("size", "channels"), [(31, 0), (513, 0), (64, 1)])
def test_other_sizes_and_channels_are_refused(size, channels):
    with pytest.raises(UserError, match="data.size must be 32 to 512 and data.channels 3"):
        datasets.load("shapes", dense=DenseSettings("masks"), size=size, channels=channels)
