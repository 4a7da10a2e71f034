"""The files of a small run, written by hand, and the page that the report makes of them."""

import functools
import json
import pathlib
import re
import tempfile
import xml.etree.ElementTree as ElementTree

import numpy as np

from jaxdistill.report.html import Section, render_page
from jaxdistill.report.write import write_report

ROWS = [
    {
        "network": "teacher",
        "parameters": 1_078_042,
        "flops": 24_300_000,
        "accuracy": 0.9,
        "nll": 0.1,
        "agreement": None,
    },
    {"network": "plain", "parameters": 78_042, "flops": 1_200_000, "accuracy": 0.75, "nll": 0.3, "agreement": 0.7},
    {"network": "pupil", "parameters": 78_042, "flops": 1_200_000, "accuracy": 0.875, "nll": 0.2, "agreement": 0.8},
]
PREDICTIONS = {"teacher": [0, 1, 2, 0, 1, 2], "plain": [0, 1, 2, 0, 2, 1], "pupil": [0, 1, 2, 1, 1, 2]}
BETTER = {"accuracy": "max", "nll": "min", "agreement": "max"}
SCORES = ("precision", "recall", "f1")
TAPS = {"taps": ["stem", "pooled"], "reference_taps": ["pooled"], "cka": [[0.4375], [None]]}
FILES = ("evaluation.json", "predictions.npz", "metrics.jsonl", "config.json", "environment.json")


def metric_lines():
    for stage in ("teach", "distil"):
        for step in (50, 100, 150):
            line = {"stage": stage, "step": step, "epoch": 1.5, "examples_per_second": 5e3, "rate": 0.1 / step}
            yield line | {"loss": 3.0 / step, "grad_norm": 0.5, "task": 1.0 / step, "kd": 2.0 / step}
        if stage == "distil":  # the other stage is never evaluated
            yield {"stage": stage, "step": 150, "epoch": 3.0, "split": "validation", "student/accuracy": 0.875}
            yield {"stage": stage, "step": 150, "epoch": 3.0, "split": "test", "unseen/accuracy": 0.5, "unheard": 0.5}


def fill(workdir, name="pupil"):
    """Writes what a run leaves; `name` is that of the best student."""
    names = [*list(PREDICTIONS)[:2], name]
    predictions = dict(zip(names, PREDICTIONS.values(), strict=True))
    label = np.asarray([0, 1, 2, 0, 1, -1], np.int32)
    bins = {"edges": [0.0, 0.5, 1.0], "count": [0, 6], "confidence": [None, 0.8], "accuracy": [None, 0.75]}
    evaluation = {
        "reference": "teacher",
        "split": "test",
        "examples": 6,
        "classes": ["ant", "bee", "cat"],
        "confusion": {one: [[3, 0, 0], [1, 2, 0], [0, 0, 0]] for one in names},
        "reliability": dict.fromkeys(names, bins),
        "per_class": {one: {score: [0.5, 0.25, 1.0] for score in SCORES} | {"examples": [3, 2, 1]} for one in names},
        "pairs": [
            {"network": names[1], "reference": "teacher", "kl": 0.375, "copied_errors": None, "cka": TAPS},
            {"network": name, "reference": names[1], "kl": 0.0625, "saliency": 0.75, "cka": TAPS | {"taps": []}},
        ],
        "saliency": {"examples": 6, "left_out": ["forest"]},
        "figures": ["confusion", "classes", "calibration", "disagreements", "saliency"],
        "better": BETTER,
        "meanings": {"kl": "KL(reference || network) in nats", "cka": "Similarity of taps."},
    }
    arrays = {"label": label, "index": np.arange(10, 16, dtype=np.int32)}
    arrays |= {f"prediction/{one}": np.asarray(ids, np.int32) for one, ids in predictions.items()}
    arrays |= {f"confidence/{one}": np.full(6, 0.625, np.float32) for one in names}
    arrays |= {"sheet/index": np.asarray([10, 13, 15]), "sheet/image": np.zeros((3, 4, 4, 1), np.uint8)}
    maps = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((3, 4, 4), np.uint8)  # each is its place in the sheet
    arrays |= {f"saliency/{one}": 10 * place + maps for place, one in enumerate(names)}
    rows = [row | {"network": one} for row, one in zip(ROWS, names, strict=True)]
    workdir.mkdir(exist_ok=True)
    (workdir / "results.json").write_text(json.dumps(rows))
    (workdir / "evaluation.json").write_text(json.dumps(evaluation))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metric_lines()))
    (workdir / "config.json").write_text(json.dumps({"seed": 17, "note": "<&>"}))
    (workdir / "environment.json").write_text(json.dumps({"jax": "0.0.1"}))
    np.savez(workdir / "predictions.npz", **arrays)
    return workdir


@functools.cache
def page() -> str:
    """Returns the page of a run from which nothing is missing."""
    with tempfile.TemporaryDirectory() as folder:
        return write_report(fill(pathlib.Path(folder) / "run")).read_text()


def render(blocks):
    """Returns the HTML of a section's blocks."""
    _, _, section = render_page("run", "", [Section("Section", blocks)]).partition("<h2>Section</h2>")
    return section


def parsed(text):
    return ElementTree.fromstring(text)


def text_of(text):
    return " ".join(parsed(text).itertext())


def cells(text):
    """Returns the text of the cells of every row, whose titles may break after an underscore."""
    text = text.replace("<wbr/>", "")
    return [re.findall(r"<t[hd][^>]*>([^<]*)<", line) for line in re.findall(r"<tr>.*?</tr>", text, re.DOTALL)]
