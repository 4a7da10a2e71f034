"""The section of the report that shows boxes: of the labels, of each network, and where networks disagree."""

import base64
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.report import figures
from jaxdistill.report.fidelity import Arrays, select_arrays
from jaxdistill.report.html import Block, Details, Figures, Image, Note, Strip, Strips
from jaxdistill.report.label_maps import make_colours
from jaxdistill.report.quality import MANY_CLASSES
from jaxdistill.report.tables import Table, format_value

SIDE = 288
"""About the larger side of a picture, in pixels."""

LEAST = 0.3
"""Detections with lower scores are not drawn, and are no disagreement."""

OVERLAP = 0.5
"""IoU from which on two boxes of a class are the same."""

ONLY = ("#d62728", "#1f77b4")
"""Colours of the boxes that only the first, or only the second of two networks has."""

Box = tuple[np.ndarray, str, str, bool]
"""A box in fractions of the image, its colour, its text, and whether its line is broken."""


def draw_boxes(image: np.ndarray, boxes: Sequence[Box]) -> bytes:
    """Returns a PNG of an enlarged uint8 image `[height, width, channels]` with boxes and their texts."""
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    times = max(1, round(SIDE / max(image.shape[:2])))
    pixels = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image
    picture = Picture.fromarray(pixels.repeat(times, 0).repeat(times, 1))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default()
    for box, colour, text, is_broken in boxes:
        top, left, bottom, right = box * ([picture.height, picture.width] * 2)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        for start, end in itertools.pairwise(corners):
            for part in np.arange(0, 1, 0.2) if is_broken else (0.0,):
                ends = (part, part + 0.1) if is_broken else (0.0, 1.0)
                line = [tuple(np.array(start) + place * (np.array(end) - start)) for place in ends]
                draw.line(line, fill=colour, width=2)
        place = draw.textbbox((left, max(0, top - 11)), text, font=font)
        draw.rectangle(place, fill=colour)
        draw.text(place[:2], text, fill="white", font=font)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def overlaps(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the IoU `[m, n]` of boxes (y_min, x_min, y_max, x_max)."""
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    sides = np.maximum(np.minimum(left[:, None, 2:], right[None, :, 2:]) - low, 0)
    shared = sides.prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (left, right)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)


def unmatched(left: Arrays, right: Arrays) -> np.ndarray:
    """Returns which of the boxes of `left` have no box of the same class in `right` that is nearly theirs."""
    is_same = left["classes"][:, None] == right["classes"][None]
    return ~((overlaps(left["boxes"], right["boxes"]) >= OVERLAP) & is_same).any(-1)


def detections(predictions: Arrays, evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the stored images with the boxes of the labels and of each network, and where networks disagree."""
    networks = [*select_arrays(predictions, "boxes")]
    if "sheet/boxes" not in predictions or not networks:
        return [Note("There are no images to show: none was stored.")]
    classes = [str(name) for name in evaluation.get("classes", ())]
    pairs = [(pair["network"], pair["reference"]) for pair in evaluation.get("pairs") or ()]
    pairs = [pair for pair in pairs if {*pair} <= {*networks}]
    strips = [
        Strip([*_images(row, predictions, networks=networks, pairs=pairs, classes=classes)], f"#{index}")
        for row, index in enumerate(predictions["sheet/index"])
    ]
    text = (
        f"{len(strips)} examples, evenly spaced over the split, with the boxes of the labels, those of crowds broken,"
    )
    text += (
        f" and the detections of each network with scores of at least {LEAST}. The last pictures show the detections"
    )
    text += f" that one of two networks alone has: no box of the class overlaps by an IoU of {OVERLAP}. Those of the"
    text += " first are red, those of the second blue and broken."
    colours = _colours(len(classes))
    return [
        Note(text),
        Figures([figures.draw_legend(colours, classes, "Colours of the classes")], "wide"),
        Strips(strips),
    ]


def _images(
    row: int,
    predictions: Arrays,
    *,
    networks: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    classes: Sequence[str],
) -> Iterator[Image]:
    """Yields the image with the labels, with the detections of each network, and with the differences of each pair."""
    index, image = predictions["sheet/index"][row], predictions["sheet/image"][row]
    colours = _colours(len(classes))
    label, crowd = predictions["sheet/box_label"][row], predictions["sheet/box_crowd"][row]
    truth = [
        (
            predictions["sheet/boxes"][row][place],
            colours[int(label[place])],
            classes[int(label[place])],
            bool(crowd[place]),
        )
        for place in np.flatnonzero(label >= 0)
    ]
    yield _encode(image, truth, f"boxes of {index}", "labels")
    shown = {name: _select(predictions, name, row) for name in networks}
    for name, boxes_of in shown.items():
        boxes = [
            (box, colours[int(kind)], f"{classes[int(kind)]} {score:.2f}", False)
            for box, kind, score in zip(boxes_of["boxes"], boxes_of["classes"], boxes_of["scores"], strict=True)
        ]
        yield _encode(image, boxes, f"detections of {name}, {index}", name)
    for left, right in pairs:
        sides = (shown[left], shown[right])
        alone = [unmatched(*sides), unmatched(*sides[::-1])]
        boxes = [
            (sides[number]["boxes"][place], ONLY[number], classes[int(sides[number]["classes"][place])], number == 1)
            for number in (0, 1)
            for place in np.flatnonzero(alone[number])
        ]
        counts = f"{alone[0].sum()} and {alone[1].sum()} alone"
        yield _encode(image, boxes, f"{left} and {right} differ, {index}", f"{left} ≠ {right}: {counts}")


def _colours(classes: int) -> list[str]:
    """Returns a colour for each class; the first of label maps is too dark for lines."""
    return [f"#{bytes(colour).hex()}" for colour in make_colours(classes + 1)[1:]]


def _select(predictions: Arrays, name: str, row: int) -> dict[str, np.ndarray]:
    """Returns the detections of a network for one example, whose scores are high enough."""
    scores = predictions[f"box_scores/{name}"][row]
    is_shown = scores >= LEAST
    return {
        "boxes": predictions[f"boxes/{name}"][row][is_shown],
        "classes": predictions[f"box_classes/{name}"][row][is_shown],
        "scores": scores[is_shown],
    }


def _encode(image: np.ndarray, boxes: Sequence[Box], alt: str, caption: str) -> Image:
    return Image(base64.b64encode(draw_boxes(image, boxes)).decode(), alt, caption)


def class_scores(evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the average precision of every class as a figure, and at all overlaps as a table."""
    scores = evaluation.get("map_per_class")
    if not scores:
        return [
            Note("evaluation.json has no precision per class; evaluate.metrics=('map_per_class', ...) measures it.")
        ]
    names = [str(name) for name in evaluation.get("classes", ())]
    blocks: list[Block] = []
    if len(names) <= MANY_CLASSES:
        values = {network: [value or 0.0 for value in row["map"]] for network, row in scores.items()}
        title = "average precision"
        blocks.append(Figures([figures.draw_class_scores(values, names, title, f"{title} of every class")], "single"))
    body = [
        [name] + [format_value(row[key][place]) for row in scores.values() for key in ("map", "map50", "map75")]
        for place, name in enumerate(names)
    ]
    columns = ["class", *(f"{network}: {key}" for network in scores for key in ("map", "map50", "map75"))]
    return [*blocks, Details("Average precision of every class", Table(columns, body))]
