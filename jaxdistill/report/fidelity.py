"""Sections of the report that compare networks with each other: predictions, fidelity, taps, saliency."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.report import figures
from jaxdistill.report.html import Block, Card, Cards, Definitions, Details, Figures, Heading, Image, Note, Prediction
from jaxdistill.report.tables import Table, find_parts, format_value, make_parts_table

Arrays = Mapping[str, np.ndarray]
"""The arrays of `predictions.npz`, by name."""

Pair = Mapping[str, Any]
"""The metrics that compare `network` with `reference`, by name."""


def select_arrays(predictions: Arrays, kind: str) -> dict[str, np.ndarray]:
    """Returns `{network: array}` of the arrays named `kind/network`."""
    return {name.split("/", 1)[1]: array for name, array in predictions.items() if name.startswith(f"{kind}/")}


def agreements(predictions: Arrays) -> list[Block]:
    """Returns the matrix of how often each two networks agree."""
    classes = select_arrays(predictions, "prediction")
    if len(classes) < 2 or not len(predictions["index"]):
        return [Note("No class predictions of two or more networks are stored, so none are compared.")]
    fractions = [[float(np.mean(left == right)) for right in classes.values()] for left in classes.values()]
    count = len(predictions["index"])
    drawn = figures.draw_agreement(fractions, list(classes), "Agreement of the networks")
    return [
        Note(f"The fraction of {count:,} examples for which two networks predict the same class."),
        Figures([drawn], "single"),
    ]


def fidelity(evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the table of the compared pairs, the meanings of its columns, and the alignment of their taps."""
    pairs = evaluation.get("pairs")
    if not pairs:
        return [
            Note("No two networks were compared: set evaluate.reference, or evaluate.pairs=('network:reference',).")
        ]
    names = list(dict.fromkeys(name for pair in pairs for name in pair if name not in ("network", "reference", "cka")))
    named = [{**pair, "network": _title(pair)} for pair in pairs]
    route = evaluation.get("route") or {}
    of_parts = make_parts_table(named, route.get("column", "route"), route.get("examples"))
    names = [name for name in names if name not in find_parts(names)]
    body = [[row["network"], *(format_value(row.get(name)) for name in names)] for row in named]
    return [
        Note("Each row compares a network with its reference."),
        Table(["network : reference", *names], body),
        *([of_parts] if of_parts else []),
        *_explain_columns(names, evaluation),
        *_taps(pairs),
    ]


def _title(pair: Pair) -> str:
    return f"{pair['network']} : {pair['reference']}"


def _explain_columns(names: Iterable[str], evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the meaning of each column."""
    saliency = evaluation.get("saliency") or {}
    stored = evaluation.get("meanings", {})
    meanings = {name: stored[name] for name in names if name in stored}
    if "saliency" in names:
        meanings["saliency"] = (
            "The rank correlation of the two networks' saliency maps: about 0 if they depend on unrelated pixels, 1 if"
            f" on the same ones; the mean over {saliency.get('examples', 0):,} examples, evenly spaced."
        )
    blocks: list[Block] = [Details("Meaning of the columns", Definitions(meanings))] if meanings else []
    if saliency.get("left_out"):
        left_out = ", ".join(saliency["left_out"])
        blocks.append(Note(f"Without a gradient by the image, and so without saliency: {left_out}."))
    return blocks


def _taps(pairs: Sequence[Pair]) -> list[Block]:
    """Returns a matrix of each pair that was compared tap by tap."""
    compared = [pair for pair in pairs if "cka" in pair]
    if not compared:
        return [Note("The networks' taps were not compared; evaluate.metrics=('cka', ...) does it.")]
    drawable = [pair for pair in compared if pair["cka"]["taps"] and pair["cka"]["reference_taps"]]
    drawn = [
        figures.draw_alignment(
            pair["cka"]["cka"],
            rows=pair["cka"]["taps"],
            columns=pair["cka"]["reference_taps"],
            row_title=pair["network"],
            column_title=pair["reference"],
            label=f"CKA of {_title(pair)}",
        )
        for pair in drawable
    ]
    blocks: list[Block] = [
        Heading("Taps"),
        Note("CKA, the similarity of two networks' taps over the examples: from 0 to 1, whatever their widths."),
        Figures(drawn),
    ]
    bare = [_title(pair) for pair in compared if pair not in drawable]
    return blocks + ([Note(f"One of the two has no taps: {', '.join(bare)}.")] if bare else [])


def disagreements(predictions: Arrays, evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the stored images on which the networks disagree, with their saliency maps if those are stored."""
    classes = evaluation.get("classes", ())
    networks = select_arrays(predictions, "prediction")
    if len(networks) < 2 or not len(predictions.get("sheet/index", ())):
        return [Note("There are no images to show: none was stored, or fewer than two networks were compared.")]
    row_of = {int(index): row for row, index in enumerate(predictions["index"])}
    differ = np.ptp(np.stack(list(networks.values())), axis=0) > 0
    maps = select_arrays(predictions, "saliency")
    cards = [
        _make_card(row_of[int(index)], _images(position, predictions, maps), predictions, classes)
        for position, index in enumerate(predictions["sheet/index"])
        if differ[row_of[int(index)]]
    ]
    if not cards:
        return [Note("On every stored image all networks agree.")]
    text = f"{len(cards)} of the {differ.sum()} examples on which the networks disagree, with the prediction and the "
    text += "confidence of each network: ✓ is right, ✗ is wrong."
    if maps:
        text += (
            " Beside the image, for each network, its saliency map: the brightest pixels change its output the most."
            " It is the gradient of the log-odds of the predicted class, its largest absolute value over the channels"
            " (Simonyan et al., 2014), each map on its own scale."
        )
    return [Note(text), Cards(cards)]


def _images(position: int, predictions: Arrays, maps: Arrays) -> list[Image]:
    """Returns an image of the sheet and the saliency map of each network on it."""
    index = predictions["sheet/index"][position]
    image = Image(_encode(predictions["sheet/image"][position]), f"example {index}", "image")
    return [
        image,
        *(
            Image(_encode(of_network[position][..., None]), f"saliency of {name}, {index}", name)
            for name, of_network in maps.items()
        ),
    ]


def _encode(image: np.ndarray) -> str:
    """Returns a uint8 image `[height, width, channels]` as a PNG in base64."""
    return base64.b64encode(figures.encode_png(image)).decode()


def _make_card(row: int, images: Sequence[Image], predictions: Arrays, classes: Sequence[str]) -> Card:
    label, confidence = predictions["label"][row], select_arrays(predictions, "confidence")

    def class_name(number: int) -> str:
        return str(classes[number] if number < len(classes) else number) if number >= 0 else "unlabelled"

    answers = []
    for network, predicted in select_arrays(predictions, "prediction").items():
        verdict = "unlabelled" if label < 0 else "right" if predicted[row] == label else "wrong"
        sure = f"{confidence[network][row]:.2f}" if network in confidence else ""
        answers.append(Prediction(network, verdict, class_name(predicted[row]), sure))
    return Card(images, class_name(label), int(predictions["index"][row]), answers)
