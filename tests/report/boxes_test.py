"""Pictures of detections: colours, texts, crowds and disagreements."""

import base64
import io

import numpy as np
from PIL import Image

from jaxdistill.report import boxes
from jaxdistill.report.html import Section, Strips, render_page
from jaxdistill.report.label_maps import make_colours

CLASSES = ("cell", "plate")
NONE = [0.0, 0, 0, 0]
PREDICTIONS = {
    "sheet/index": np.array([7]),
    "sheet/image": np.full((1, 24, 24, 3), 100, np.uint8),
    "sheet/boxes": np.array([[[0.1, 0.2, 0.5, 0.6], NONE]]),
    "sheet/box_label": np.array([[1, -1]]),
    "sheet/box_crowd": np.array([[0, 0]]),
    "boxes/teacher": np.array([[[0.1, 0.2, 0.5, 0.6], [0.6, 0.6, 0.9, 0.9], NONE]]),
    "box_classes/teacher": np.array([[1, 0, -1]]),
    "box_scores/teacher": np.array([[0.9, 0.8, 0.0]], np.float32),
    "boxes/student": np.array([[[0.1, 0.2, 0.5, 0.55], [0.6, 0.6, 0.9, 0.9], [0.0, 0.0, 0.5, 0.5]]]),
    "box_classes/student": np.array([[1, 1, 0]]),
    "box_scores/student": np.array([[0.75, 0.5, 0.2]], np.float32),
}
EVALUATION = {"classes": CLASSES, "pairs": [{"network": "student", "reference": "teacher"}]}


def decode(image):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image.png))))


def test_labels_detections_and_differences_stand_side_by_side():
    note, _, strips = boxes.detections(PREDICTIONS, EVALUATION)
    assert isinstance(strips, Strips)
    (strip,) = strips.strips
    assert [image.caption for image in strip.images] == [
        "labels",
        "teacher",
        "student",
        "student ≠ teacher: 1 and 1 alone",
    ]
    labels, teacher, _, differences = map(decode, strip.images)
    assert labels.shape == (288, 288, 3)
    # The right edge of the box, at 0.6 of the width, and half of its height.
    np.testing.assert_array_equal(labels[86, 173], make_colours(3)[2])
    np.testing.assert_array_equal(teacher[216, 259], make_colours(3)[1])
    assert (differences[216, 259] != teacher[216, 259]).any()
    assert "at least 0.3" in note.text


def test_boxes_of_other_classes_or_places_have_no_match():
    left = {"boxes": np.array([[0, 0, 1, 1.0], [0, 0, 1, 1], [0, 0, 0.5, 0.9]]), "classes": np.array([0, 1, 0])}
    right = {"boxes": np.array([[0, 0, 1, 1.0]]), "classes": np.array([0])}
    np.testing.assert_array_equal(boxes.unmatched(left, right), [False, True, True])
    empty = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int)}
    np.testing.assert_array_equal(boxes.unmatched(left, empty), [True] * 3)


def test_precision_of_classes_without_boxes_is_a_dash():
    scores = {"teacher": {"map": [0.5, None], "map50": [0.75, None], "map75": [0.25, None]}}
    blocks = boxes.class_scores({"map_per_class": scores, "classes": CLASSES})
    page = render_page("run", "", [Section("Classes", blocks)])
    assert "0.7500" in page
    assert boxes.class_scores({})[0].text.startswith("evaluation.json has no precision per class")
