"""The image processing of a checkpoint."""

import json

import pytest

from jaxdistill.errors import UserError
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.pretrained.images import FILE, read_image_spec

HALF = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}
NUMBERS = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))

CASES = {
    "resize and crop": (
        {
            "size": {"shortest_edge": 256},
            "do_center_crop": True,
            "crop_size": {"height": 224, "width": 224},
            "resample": 3,
        },
        ImageSpec((224, 224, 3), *NUMBERS, shorter_side=256, interpolation="bicubic"),
    ),
    "resize": ({"size": 224, "resample": 2}, ImageSpec((224, 224, 3), *NUMBERS)),
    "a fraction of the size": (
        {"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3},
        ImageSpec((224, 224, 3), *NUMBERS, shorter_side=256, interpolation="bicubic"),
    ),
    "large images are not cropped": (
        {"size": {"shortest_edge": 384}, "crop_pct": 0.875},
        ImageSpec((384, 384, 3), *NUMBERS),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_images_of_a_checkpoint(tmp_path, name):
    keys, expected = CASES[name]
    (tmp_path / FILE).write_text(json.dumps(HALF | keys))
    assert read_image_spec(tmp_path, 224) == expected


def test_no_file_is_no_specification(tmp_path):
    assert read_image_spec(tmp_path, 224) is None


BAD = {
    "a rectangle": ({"size": {"height": 2, "width": 3}}, "size of .* must be one side"),
    "two means": ({"image_mean": [0.5, 0.5]}, "image_mean of .* must be 3 numbers"),
    "an interpolation": ({"resample": 1}, "resample of .* must be one that is supported, got 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_images_are_refused(tmp_path, name):
    keys, message = BAD[name]
    (tmp_path / FILE).write_text(json.dumps(HALF | keys))
    with pytest.raises(UserError, match=message):
        read_image_spec(tmp_path, 224)
