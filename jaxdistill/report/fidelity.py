"""The sections of the report that compare networks with each other: what they say, and where they look."""

import base64
import inspect
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from jaxdistill.report import figures as plots
from jaxdistill.report.html import grid, say, tabulated
from jaxdistill.report.tables import number


def of_networks(predictions: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """Returns `{network: array}` of the arrays named `kind/network`."""
    return {name.split("/", 1)[1]: held for name, held in predictions.items() if name.startswith(f"{kind}/")}


def agreements(predictions: Mapping[str, np.ndarray]) -> str:
    held = of_networks(predictions, "prediction")
    if len(held) < 2 or not len(predictions["label"]):
        return say("There are no predictions of two networks to compare.")
    share = [[float(np.mean(one == other)) for other in held.values()] for one in held.values()]
    told = f"The share of {len(predictions['label']):,} examples for which two networks predict the same class."
    return say(told) + grid([plots.agreement(share, list(held), "Agreement of the networks")], "grid single")


def fidelity(evaluation: Mapping[str, Any]) -> str:
    """Returns the table of the pairs that were compared, what its columns say, and the taps' alignment."""
    pairs = evaluation.get("pairs")
    if not pairs:
        return say("No two networks were compared: set evaluate.reference, or evaluate.pairs=('network:reference',).")
    found = dict.fromkeys(name for pair in pairs for name in pair if name not in ("network", "reference", "cka"))
    lines = [
        [f'<th scope="row">{escape(title(pair))}</th>', *(f"<td>{number('', pair.get(name))}</td>" for name in found)]
        for pair in pairs
    ]
    told = "Each line tells how a network does what another one does, its reference."
    return say(told) + tabulated(["network : reference", *found], lines) + meanings(found, evaluation) + taps(pairs)


def title(pair: Mapping[str, Any]) -> str:
    return f"{pair['network']} : {pair['reference']}"


def meanings(names: Iterable[str], evaluation: Mapping[str, Any]) -> str:
    """Says what each column of the pairs is, in the words of its metric's docstring."""
    from jaxdistill.metrics import METRICS, TOKEN_METRICS

    known = TOKEN_METRICS if evaluation.get("unit") == "token" else METRICS
    looked = evaluation.get("saliency") or {}
    words = {name: inspect.getdoc(known[name]).partition("\n\n")[0] for name in names if name in known}
    if "saliency" in names:
        words["saliency"] = (
            "The rank correlation of the two networks' saliency maps, about 0 where they look at pixels that have"
            " nothing to do with each other and 1 where they look at the same: the mean over"
            f" {looked.get('examples', 0):,} examples, evenly spaced."
        )
    terms = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in words.items())
    folded = f"<details><summary>What the columns say</summary><dl>{terms}</dl></details>" if terms else ""
    blind = looked.get("left_out")
    told = f"Without a gradient by the image, and so without saliency: {listed(blind or ())}."
    return folded + (say(told) if blind else "")


def listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def taps(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Returns a matrix of each pair that was compared tap by tap."""
    held = {title(pair): (pair, pair["cka"]) for pair in pairs if "cka" in pair}
    if not held:
        return say("The networks' taps were not compared; evaluate.metrics=('cka', ...) does it.")
    figures = [
        plots.alignment(
            table["cka"], table["taps"], table["reference_taps"], pair["network"], pair["reference"], f"CKA of {name}"
        )
        for name, (pair, table) in held.items()
        if table["taps"] and table["reference_taps"]
    ]
    bare = [name for name, (_, table) in held.items() if not (table["taps"] and table["reference_taps"])]
    told = "CKA, how alike the taps of two networks tell the examples apart: from 0 to 1, whatever their widths."
    without = say(f"One of the two has no taps: {listed(bare)}.") if bare else ""
    return f"<h3>Taps</h3>{say(told)}{grid(figures)}{without}"


def sheet(predictions: Mapping[str, np.ndarray], evaluation: Mapping[str, Any]) -> str:
    """Returns the images on which not all networks agree, with where each of them looks, if that is known."""
    classes = evaluation.get("classes", ())
    held = of_networks(predictions, "prediction")
    if len(held) < 2 or not len(predictions.get("sheet/index", ())):
        return say("There are no images to show: none was stored, or fewer than two networks were compared.")
    row_of = {int(index): row for row, index in enumerate(predictions["index"])}
    differ = np.ptp(np.stack(list(held.values())), axis=0) > 0
    maps = of_networks(predictions, "saliency")
    cards = [
        card(row_of[int(index)], pictures(place, predictions, maps), predictions, classes)
        for place, index in enumerate(predictions["sheet/index"])
        if differ[row_of[int(index)]]
    ]
    if not cards:
        return say("On every stored image all networks agree.")
    told = f"{len(cards)} of the {differ.sum()} examples on which the networks disagree, with the prediction and the "
    told += "confidence of each network: ✓ is right, ✗ is wrong."
    if maps:
        told += (
            " Beside the image, for each network, the pixels that move its answer the most are the brightest: the"
            " gradient of the log-odds of the class that it predicts, its largest absolute value over the channels"
            " (Simonyan et al., 2014), each map on its own scale."
        )
    return say(told) + grid(cards, "sheet")


def pictures(place: int, predictions: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray]) -> str:
    """Returns an image of the sheet and, side by side with it, where each network looks on it."""
    index = predictions["sheet/index"][place]
    image = picture(predictions["sheet/image"][place], f"example {index}")
    if not maps:
        return image
    beside = [(name, picture(held[place][..., None], f"saliency of {name}, {index}")) for name, held in maps.items()]
    shown = "".join(f"<span>{drawn}{escape(name)}</span>" for name, drawn in [("image", image), *beside])
    return f'<div class="looks">{shown}</div>'


def picture(image: np.ndarray, alt: str) -> str:
    """Returns a uint8 image `[height, width, channels]` as HTML that holds its data."""
    data = base64.b64encode(plots.png(image)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}"/>'


def card(row: int, shown: str, predictions: Mapping[str, np.ndarray], classes: Sequence[str]) -> str:
    """Returns what is shown of one image, its label, and what each network says of it and how surely."""
    label, confidence = predictions["label"][row], of_networks(predictions, "confidence")

    def called(which):
        return str(classes[which] if which < len(classes) else which) if which >= 0 else "unlabelled"

    lines = ""
    for network, predicted in of_networks(predictions, "prediction").items():
        mark, word = ("✓", "right") if predicted[row] == label else ("✗", "wrong")
        if label < 0:
            mark, word = "·", "unlabelled"
        said = f'<span title="{word}">{mark}</span> {escape(called(predicted[row]))}'
        sure = f"{confidence[network][row]:.2f}" if network in confidence else ""
        lines += f'<tr class="{word}"><th scope="row">{escape(network)}</th><td>{said}</td><td>{sure}</td></tr>'
    told = f"true: {escape(called(label))} <span>#{predictions['index'][row]}</span>"
    return f"{shown}<figcaption>{told}</figcaption><table>{lines}</table>"
