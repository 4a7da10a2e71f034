"""The results of a run as data: the final table, the tables behind the report's plots, each prediction."""

import math
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from jaxdistill import core
from jaxdistill.environment import write_json
from jaxdistill.networks import run
from jaxdistill.stage import Stage
from jaxdistill.train.evaluate import Evaluation, closure

SHEET = 48
"""How many of the images on which networks disagree the report shows."""


def cost(stage: Stage, name: str) -> tuple[int, int]:
    """Counts a network's parameters, and the FLOPs of its inference on one example, with what it needs.

    FLOPs are XLA's count of the lowered program: a multiplication and an addition are two.
    """
    cast = closure(stage.networks, [name])
    fresh = {key: shapes for key, shapes in stage.fresh.items() if key in cast}
    one = {key: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for key, x in stage.batch.items()}
    lowered = jax.jit(lambda known, batch: run(cast, known, batch, None)[0][name].logits).lower(fresh, one)
    parameters = sum(core.count(shapes.get("params", {})) for shapes in fresh.values())
    return parameters, int((lowered.cost_analysis() or {}).get("flops", 0))


def write_results(workdir: pathlib.Path, stage: Stage, found: Evaluation) -> None:
    """Writes `results.json` (a list of rows), `evaluation.json` and `predictions.npz` into the workdir."""
    rows, reference = stage.measured, stage.reference
    table, tables = [], {}
    for name in rows:
        parameters, flops = cost(stage, name)
        row = {"network": name, "parameters": parameters, "flops": flops}
        for key in stage.settings["evaluate"]["metrics"]:
            value = found.values[name].get(key)
            if isinstance(value, float):
                row[key] = value if math.isfinite(value) else None
            elif value is not None:
                tables.setdefault(key, {})[name] = value
        table.append(row)
    split = stage.settings["evaluate"]["split"]
    about = {"reference": reference, "split": split, "examples": len(found.label), "classes": stage.dataset.class_names}
    write_json(workdir / "results.json", table)
    write_json(workdir / "evaluation.json", about | tables)
    sheet = _disagreements(found, rows, reference)
    arrays = {"label": found.label, "index": found.index, "sheet/index": found.index[sheet]}
    image = stage.dataset.split(split).take(found.index[sheet])["image"]
    arrays["sheet/image"] = image if image.dtype == np.uint8 else np.round(255 * image.clip(0, 1)).astype(np.uint8)
    for name in rows:
        arrays[f"prediction/{name}"], arrays[f"confidence/{name}"] = found.predictions[name]
    np.savez_compressed(workdir / "predictions.npz", **arrays)


def _disagreements(found: Evaluation, rows: Sequence[str], reference: str) -> np.ndarray:
    """Chooses the examples on which some network and the reference differ, those of most networks first."""
    if reference not in rows:
        return np.zeros(0, int)
    ours = found.predictions[reference][0]
    differing = sum((found.predictions[name][0] != ours).astype(int) for name in rows)
    order = np.argsort(-differing, kind="stable")
    return order[differing[order] > 0][:SHEET]
