"""The section of the report that shows classes of pixels: images, labels, predictions and where networks disagree."""

import base64
import colorsys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.report import figures
from jaxdistill.report.fidelity import Arrays, select_arrays
from jaxdistill.report.html import Block, Details, Figures, Image, Note, Strip, Strips
from jaxdistill.report.quality import MANY_CLASSES
from jaxdistill.report.tables import Table, format_value

COLOURS = (
    *("#3b4252", "#3b82f6", "#e8762b", "#27a567", "#e0526a", "#a06ee1", "#f2c744"),
    *("#12a5b5", "#8c564b", "#f48fb1", "#9ccc65", "#5c6bc0", "#b0bec5"),
)
"""Colours of the first classes; the first is dark, since it often is the background."""

DIFFERENT = (214, 39, 40)
"""Red of the pixels for which two networks differ."""

SIDE = 192
"""About the larger side of an image, in pixels."""


def make_colours(count: int) -> np.ndarray:
    """Returns a colour for each class, uint8 `[classes, 3]`; those after `COLOURS` turn by the golden angle."""
    more = (colorsys.hls_to_rgb(index * 0.381966 % 1, 0.35 + 0.1 * (index % 4), 0.6) for index in range(count))
    first = [tuple(bytes.fromhex(colour[1:])) for colour in COLOURS]
    rest = [tuple(round(255 * part) for part in colour) for colour in more]
    return np.array([*first, *rest][:count], np.uint8).reshape(count, 3)


def paint(label_map: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Returns a map `[height, width]` in the colours of its classes, RGBA; void is clear."""
    rgba = np.concatenate([colours, np.full((len(colours), 1), 255, np.uint8)], -1)
    return np.concatenate([rgba, np.zeros((1, 4), np.uint8)])[label_map]


def paint_differences(image: np.ndarray, left: np.ndarray, right: np.ndarray, label_map: np.ndarray) -> np.ndarray:
    """Returns a pale grey image, with the pixels in red for which two predictions differ, RGBA; void is clear."""
    grey = np.round(128 + 0.4 * image.mean(-1)).astype(np.uint8)
    result = np.stack([grey] * 3 + [np.full_like(grey, 255)], -1)
    result[left != right, :3] = DIFFERENT
    result[label_map < 0] = 0
    return result


def segmentations(predictions: Arrays, evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the stored images beside their labels and predictions, and the legend of the colours."""
    maps, classes = select_arrays(predictions, "label_map"), [str(name) for name in evaluation.get("classes", ())]
    if "sheet/label_map" not in predictions or not maps:
        return [Note("There are no images to show: none was stored.")]
    colours = make_colours(len(classes))
    pairs = [(pair["network"], pair["reference"]) for pair in evaluation.get("pairs") or ()]
    strips = [
        Strip([*_images(row, predictions, maps=maps, pairs=pairs, colours=colours)], f"#{index}")
        for row, index in enumerate(predictions["sheet/index"])
    ]
    text = f"{len(strips)} examples, evenly spaced over the split, with their labels and the classes that each network"
    text += " predicts. Void pixels, which do not count, are clear in the labels. Where two networks predict other"
    text += " classes, pixels are red; those of the labels' void are left out."
    legend = figures.draw_legend([f"#{bytes(colour).hex()}" for colour in colours], classes, "Colours of the classes")
    return [Note(text), Figures([legend], "wide"), Strips(strips)]


def _images(
    row: int, predictions: Arrays, maps: Arrays, pairs: Sequence[tuple[str, str]], colours: np.ndarray
) -> Iterator[Image]:
    """Yields the image, its labels, the predictions of each network, and the differences of each pair."""
    index, image = predictions["sheet/index"][row], predictions["sheet/image"][row]
    label = predictions["sheet/label_map"][row]
    yield _encode(image, f"example {index}", "image")
    yield _encode(paint(label, colours), f"labels of {index}", "labels")
    for name, of_network in maps.items():
        yield _encode(paint(of_network[row], colours), f"classes of {name}, {index}", name)
    for left, right in pairs:
        if left in maps and right in maps:
            differences = paint_differences(image, maps[left][row], maps[right][row], label)
            fraction = np.mean((maps[left][row] != maps[right][row])[label >= 0]) if np.any(label >= 0) else 0.0
            yield _encode(differences, f"{left} and {right} differ, {index}", f"{left} ≠ {right}: {fraction:.1%}")


def _encode(image: np.ndarray, alt: str, caption: str) -> Image:
    return Image(base64.b64encode(figures.encode_png(image, SIDE)).decode(), alt, caption)


def class_scores(evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the IoU of every class as a figure, and all scores as a table."""
    scores = evaluation.get("per_class_iou")
    if not scores:
        return [Note("evaluation.json has no IoU per class; evaluate.metrics=('per_class_iou', ...) measures it.")]
    pixels = next(iter(scores.values()))["pixels"]
    classes = [str(name) for name in evaluation.get("classes", range(len(pixels)))]
    blocks: list[Block] = []
    if len(classes) <= MANY_CLASSES:
        iou = {network: values["iou"] for network, values in scores.items()}
        blocks.append(Figures([figures.draw_class_scores(iou, classes, "IoU", "IoU of every class")], "single"))
    body = [
        [name, f"{pixels[row]:,}"]
        + [format_value(values[score][row]) for values in scores.values() for score in ("iou", "accuracy")]
        for row, name in enumerate(classes)
    ]
    columns = ["class", "pixels", *(f"{network}: {score}" for network in scores for score in ("IoU", "accuracy"))]
    return [*blocks, Details("IoU and accuracy of every class", Table(columns, body))]
