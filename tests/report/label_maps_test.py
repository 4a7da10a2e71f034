"""Pictures of segmentations: colours, void, differences, legend and captions."""

import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
from PIL import Image

from jaxdistill.report import label_maps
from jaxdistill.report.html import Figures, Section, Strips, render_page

CLASSES = ("sky", "road")
LABEL = np.array([[[0, 0, 1], [1, -1, 1]]], np.int32)
PREDICTIONS = {
    "sheet/index": np.array([7]),
    "sheet/image": np.full((1, 2, 3, 3), 100, np.uint8),
    "sheet/label_map": LABEL,
    "label_map/teacher": np.array([[[0, 0, 1], [1, 0, 1]]], np.int16),
    "label_map/student": np.array([[[0, 1, 1], [1, 1, 0]]], np.int16),
}
EVALUATION = {"classes": CLASSES, "pairs": [{"network": "student", "reference": "teacher", "kl": 0.1}]}
SCORES = {"iou": [0.5, 0.25], "accuracy": [0.75, 0.5], "pixels": [1200, 3]}


def decode(image):
    """A picture as an array, one place per pixel of the example."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.png))))
    times = pixels.shape[1] // 3
    return pixels[::times, ::times]


def test_images_labels_predictions_and_differences_stand_side_by_side():
    _, legend, strips = label_maps.segmentations(PREDICTIONS, EVALUATION)
    assert isinstance(legend, Figures)
    assert all(name in legend.svgs[0] for name in CLASSES)
    assert isinstance(strips, Strips)
    (strip,) = strips.strips
    assert strip.title == "#7"
    captions = [image.caption for image in strip.images]
    assert captions == ["image", "labels", "teacher", "student", "student ≠ teacher: 40.0%"]
    image, labels, teacher, student, differences = map(decode, strip.images)
    colours = label_maps.make_colours(2)
    np.testing.assert_array_equal(image, PREDICTIONS["sheet/image"][0])
    assert labels[1, 1, 3] == 0  # void is clear
    np.testing.assert_array_equal(labels[LABEL[0] == 1][:, :3], np.tile(colours[1], (3, 1)))
    np.testing.assert_array_equal(teacher[..., :3], colours[PREDICTIONS["label_map/teacher"][0]])
    np.testing.assert_array_equal(student[..., :3], colours[PREDICTIONS["label_map/student"][0]])
    is_red = (differences[..., :3] == label_maps.DIFFERENT).all(-1)
    np.testing.assert_array_equal(is_red, [[0, 1, 0], [0, 0, 1]])  # the second difference is at a void pixel
    assert differences[1, 1, 3] == 0


def test_colours_differ_for_many_classes():
    colours = label_maps.make_colours(60)
    assert len(np.unique(colours, axis=0)) == 60
    assert label_maps.make_colours(3).shape == (3, 3)


def test_classes_have_a_figure_and_a_table():
    drawn, table = label_maps.class_scores(EVALUATION | {"per_class_iou": {"teacher": SCORES}})
    assert "IoU of every class" in drawn.svgs[0]
    assert [str(cell) for cell in table.block.rows[0]] == ["sky", "1,200", "0.5000", "0.7500"]


def test_missing_parts_leave_a_note_and_the_page_is_well_formed():
    assert "none was stored" in label_maps.segmentations({}, EVALUATION)[0].text
    assert "per_class_iou" in label_maps.class_scores({})[0].text
    page = render_page("run", "", [Section("Segmentations", label_maps.segmentations(PREDICTIONS, EVALUATION))])
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    assert page.count("<img") == 5
