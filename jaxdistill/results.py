"""The results of a run as data: the final table, the tables behind the report's plots, each prediction."""

import math
import pathlib
from typing import Any

import jax
import numpy as np

from jaxdistill import core
from jaxdistill.environment import write_json
from jaxdistill.networks import run
from jaxdistill.saliency import Saliency
from jaxdistill.stage import Stage
from jaxdistill.train import flops
from jaxdistill.train.evaluate import Evaluation, closure

SHEET = 48
"""How many of the images on which networks disagree the report shows."""


def cost(stage: Stage, name: str) -> tuple[int, int]:
    """Counts a network's parameters, and the FLOPs of its inference on one example, with what it needs.

    FLOPs are those of matrix products and convolutions, two for a multiplication and an addition (`train.flops`).
    """
    cast = closure(stage.networks, [name])
    fresh = {key: shapes for key, shapes in stage.fresh.items() if key in cast}
    one = {key: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for key, x in stage.batch.items()}
    counted = flops.count(lambda known, batch: run(cast, known, batch, None)[0][name].logits, fresh, one)
    parameters = sum(core.count(shapes.get("params", {})) for shapes in fresh.values())
    return parameters, sum(counted.values())


def write_results(workdir: pathlib.Path, stage: Stage, found: Evaluation, looked: Saliency | None) -> None:
    """Writes `results.json` (a list of rows), `evaluation.json` and `predictions.npz` into the workdir.

    Args:
        looked: where the networks look on the images of the `disagreements`; None if that was not asked for.
    """
    rows, split = stage.measured, stage.settings["evaluate"]["split"]
    measures = stage.metrics()
    table, tables = [], {}
    for name in rows:
        parameters, computed = cost(stage, name)
        row = {"network": name, "parameters": parameters, "flops": computed}
        for key, metric in measures.items():
            value = found.values[name].get(key)
            if isinstance(value, float):
                row[key] = _finite(value)
            elif value is not None and not metric.needs_reference:
                tables.setdefault(key, {})[name] = value
        table.append(row)
    about = {
        "reference": stage.reference,
        "split": split,
        "examples": len(found.label),
        "classes": stage.dataset.class_names,
        "pairs": _compared(stage, found, looked),
    }
    if looked:
        about["saliency"] = {"examples": looked.examples, "left_out": looked.left_out}
    write_json(workdir / "results.json", table)
    write_json(workdir / "evaluation.json", about | tables)
    sheet = disagreements(stage, found)
    arrays = {"label": found.label, "index": found.index, "sheet/index": found.index[sheet]}
    image = stage.dataset.split(split).take(found.index[sheet])["image"]
    arrays["sheet/image"] = image if image.dtype == np.uint8 else np.round(255 * image.clip(0, 1)).astype(np.uint8)
    for name in rows:
        arrays[f"prediction/{name}"], arrays[f"confidence/{name}"] = found.predictions[name]
    if looked:
        arrays |= {f"saliency/{name}": maps for name, maps in looked.maps.items()}
    np.savez_compressed(workdir / "predictions.npz", **arrays)


def _compared(stage: Stage, found: Evaluation, looked: Saliency | None) -> list[dict[str, Any]]:
    """Returns a row for each pair of networks: numbers, and tables where a metric gives one."""
    rows = []
    for pair in stage.pairs:
        row = {"network": pair[0], "reference": pair[1]}
        values = {key: found.pairs[pair][key] for key in stage.metrics() if key in found.pairs[pair]}
        row |= {key: _finite(value) if isinstance(value, float) else value for key, value in values.items()}
        rows.append(row | ({"saliency": looked.pairs[pair]} if looked and pair in looked.pairs else {}))
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def disagreements(stage: Stage, found: Evaluation) -> np.ndarray:
    """Chooses the examples, as rows, on which the networks of some pair differ, those of most pairs first."""
    said = {name: predicted for name, (predicted, _) in found.predictions.items()}
    pairs = [pair for pair in stage.pairs if set(pair) <= set(said)]
    differing = sum(((said[one] != said[other]).astype(int) for one, other in pairs), np.zeros(len(found.label), int))
    order = np.argsort(-differing, kind="stable")
    return order[differing[order] > 0][:SHEET]
