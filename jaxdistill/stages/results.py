"""The results of a run as data: the final table, the tables behind the report's plots, each prediction."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdistill import core
from jaxdistill.build.stage import Stage
from jaxdistill.networks import dependencies, run
from jaxdistill.runtime.files import write_json
from jaxdistill.stages.runs import Runs
from jaxdistill.stages.saliency import Saliency
from jaxdistill.train import flops
from jaxdistill.train.evaluate import Evaluation

LANES = "lanes.json"
"""The table of an evaluation of several runs, a row for each network and run."""

SHEET = 48
"""How many of the images on which networks disagree the report shows."""


def cost(stage: Stage, name: str) -> tuple[int, int]:
    """Counts a network's parameters, and the FLOPs of its inference on one example, with what it needs.

    FLOPs are those of matrix products and convolutions, two for a multiplication and an addition (`train.flops`).
    """
    cast = dependencies(stage.networks, [name])
    fresh = {key: shapes for key, shapes in stage.shapes.variables.items() if key in cast}
    one = {key: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for key, x in stage.data.batch.items()}

    def say(known, batch):
        return core.comparable(run(cast, known, batch, None)[0][name].logits)

    counted = flops.count(say, fresh, one)
    parameters = sum(core.count(shapes.get("params", {})) for shapes in fresh.values())
    return parameters, sum(counted.values())


def write_results(workdir: pathlib.Path, runs: Runs, each: Sequence[Evaluation], looked: Saliency | None) -> None:
    """Writes `results.json` (a list of rows), `evaluation.json` and `predictions.npz` into the workdir.

    Of several runs, the rows are means, `lanes.json` has the rows of each, and all else is of the first.

    Args:
        each: the evaluation of each run.
        looked: where the networks look on the images of the `disagreements`; None if that was not asked for.
    """
    stage = runs.stage
    rows, split, found = stage.evaluation.networks, stage.settings.evaluate.split, each[0]
    tables: dict[str, Any] = {}
    costs = {name: dict(zip(("parameters", "flops"), cost(stage, name), strict=True)) for name in rows}
    numbers = [{name: _numbers(stage, one, name) for name in rows} for one in each]
    table = [{"network": name} | costs[name] | _means([own[name] for own in numbers]) for name in rows]
    for name in rows:
        for key, metric in stage.evaluation.metrics.items():
            value = found.values[name].get(key)
            if value is not None and not isinstance(value, float) and not metric.needs_reference:
                tables.setdefault(key, {})[name] = value
    about = {
        "reference": stage.evaluation.reference,
        "split": split,
        "examples": len(found.label),
        "classes": stage.data.dataset.class_names,
        "unit": stage.data.task.unit,
        "pairs": _compared(stage, found, looked),
    }
    if looked:
        about["saliency"] = {"examples": looked.examples, "left_out": looked.left_out}
    about |= runs.result_metadata
    if by_run := runs.result_rows(costs, numbers):
        write_json(workdir / LANES, by_run)
    write_json(workdir / "results.json", table)
    write_json(workdir / "evaluation.json", about | tables)
    arrays = {"label": found.label, "index": found.index} | _sheet(stage, found)
    for name, said in found.predictions.items():
        arrays[f"prediction/{name}"], arrays[f"confidence/{name}"] = said
    if looked:
        arrays |= {f"saliency/{name}": maps for name, maps in looked.maps.items()}
    np.savez_compressed(workdir / "predictions.npz", **arrays)


def _sheet(stage: Stage, found: Evaluation) -> dict[str, np.ndarray]:
    """Returns the images on which networks disagree; texts are not shown."""
    if "disagreements" not in stage.data.task.figures:
        return {}
    index = found.index[disagreements(stage, found)]
    image = stage.data.dataset.split(stage.settings.evaluate.split).take(index)["image"]
    image = image if image.dtype == np.uint8 else np.round(255 * image.clip(0, 1)).astype(np.uint8)
    return {"sheet/index": index, "sheet/image": image}


def _numbers(stage: Stage, found: Evaluation, name: str) -> dict[str, float | None]:
    held = {key: found.values[name].get(key) for key in stage.evaluation.metrics}
    return {key: _finite(value) for key, value in held.items() if isinstance(value, float)}


def _means(each: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    def mean(values):
        return None if None in values else sum(values) / len(values)

    return {key: mean([own[key] for own in each]) for key in each[0]}


def _compared(stage: Stage, found: Evaluation, looked: Saliency | None) -> list[dict[str, Any]]:
    """Returns a row for each pair of networks: numbers, and tables where a metric gives one."""
    rows = []
    for pair in stage.evaluation.pairs:
        row = {"network": pair[0], "reference": pair[1]}
        values = {key: found.pairs[pair][key] for key in stage.evaluation.metrics if key in found.pairs[pair]}
        row |= {key: _finite(value) if isinstance(value, float) else value for key, value in values.items()}
        rows.append(row | ({"saliency": looked.pairs[pair]} if looked and pair in looked.pairs else {}))
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def disagreements(stage: Stage, found: Evaluation) -> np.ndarray:
    """Chooses the examples, as rows, on which the networks of some pair differ, those of most pairs first."""
    said = {name: predicted for name, (predicted, _) in found.predictions.items()}
    pairs = [pair for pair in stage.evaluation.pairs if set(pair) <= set(said)]
    differing = sum(((said[one] != said[other]).astype(int) for one, other in pairs), np.zeros(len(found.label), int))
    order = np.argsort(-differing, kind="stable")
    return order[differing[order] > 0][:SHEET]
