"""The results of a run as data: the final table, the tables behind the report's plots, each prediction."""

import inspect
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.build.runs import Runs
from jaxdistill.build.stage import Stage
from jaxdistill.config import registry
from jaxdistill.metrics.metric import ExampleMetric, GatheringMetric, Metric
from jaxdistill.runtime.files import read_json, write_json
from jaxdistill.runtime.workdir import CONFIG
from jaxdistill.stages.cost import Costs, describe_conditions
from jaxdistill.stages.examples import to_bytes
from jaxdistill.stages.saliency import Saliency
from jaxdistill.stages.sample_texts import FIGURE
from jaxdistill.train.evaluate import Evaluation
from jaxdistill.train.parts import gather_numbers

RESULTS, EVALUATION, LANES = "results.json", "evaluation.json", "lanes.json"
"""The table of an evaluation, facts of it, and its table with a row for each network and lane."""

SHEET = 48
"""The largest number of images in the report on which networks disagree."""

SCORE = "score"
"""The start of the names `score/METRIC/NETWORK` of arrays in `predictions.npz`."""

Number = float | None
"""A number of a table; `None` if it is not finite."""


def write_results(
    workdir: pathlib.Path,
    runs: Runs,
    evaluations: Sequence[Evaluation],
    *,
    costs: Costs,
    saliency: Saliency | None = None,
    pictures: Mapping[str, np.ndarray],
    texts: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Writes `results.json`, `evaluation.json` and `predictions.npz` into the workdir; returns the rows of the first.

    Of several lanes, the rows are means, `lanes.json` has the rows of each, and all else is of the first. If several
    stages evaluate, each has these files in its folder. Those in the workdir are of the last, except that its rows
    are of all, with their `evaluation` and `split`.

    Args:
        workdir: the folder of the run.
        runs: those of the stage.
        evaluations: that of each run.
        costs: of each network.
        saliency: maps of the images of the `disagreements`; `None` for no maps.
        pictures: arrays of `examples.compute_pictures`.
        texts: of `sample_texts.compute_texts`.
    """
    stage, first = runs.stage, evaluations[0]
    names = stage.evaluation.networks
    numbers = [{name: _numbers(evaluation, name) for name in names} for evaluation in evaluations]
    table = [{"network": name} | costs[name] | _means([row[name] for row in numbers]) for name in names]
    metadata = {
        "reference": stage.evaluation.reference,
        "split": stage.settings.evaluate.split,
        "examples": len(first.label),
        "classes": stage.data.dataset.class_names,
        "targets": [target.name for target in stage.data.dataset.targets],
        "unit": stage.data.task.unit,
        "pairs": _pair_rows(stage, first, saliency),
        **_describe_parts(stage, first),
        "figures": stage.data.task.figures,
        **_describe_metrics(stage),
        **describe_conditions(stage),
    }
    if saliency:
        metadata["saliency"] = {"examples": saliency.examples, "left_out": saliency.left_out}
    if texts:
        metadata[FIGURE] = texts
    stages = _list_evaluations(workdir)
    arrays = _arrays(stage, first, saliency) | dict(pictures)
    for folder in (workdir / stage.name, workdir) if len(stages) > 1 else (workdir,):
        folder.mkdir(exist_ok=True)
        if rows := runs.result_rows(costs, numbers):
            write_json(folder / LANES, rows)
        write_json(folder / RESULTS, table)
        write_json(folder / EVALUATION, metadata | runs.result_metadata | _tables(stage, first))
        np.savez_compressed(folder / "predictions.npz", **arrays)
    for file in (LANES, RESULTS) if len(stages) > 1 else ():
        if rows := [row for name in stages for row in _read_rows(workdir / name, file)]:
            write_json(workdir / file, rows)
    return table


def _list_evaluations(workdir: pathlib.Path) -> list[str]:
    """Returns the stages of a run that write results, in order."""
    path = workdir / CONFIG
    stages = read_json(path, dict).get("stages", {}) if path.is_file() else {}
    return [name for name, keys in stages.items() if registry.find("kind", keys.get("kind", "train")).writes_results]


def _read_rows(folder: pathlib.Path, file: str) -> list[dict[str, Any]]:
    """Returns the rows of one of several evaluations, with its stage and its split; none before it has ended."""
    if not (folder / file).is_file():
        return []
    about = {"evaluation": folder.name, "split": read_json(folder / EVALUATION, dict)["split"]}
    return [{"network": row["network"], **about, **row} for row in read_json(folder / file, list)]


def _describe_metrics(stage: Stage) -> dict[str, dict[str, str]]:
    """Returns the better end of each metric of the task that has one, and the meaning of each, for the report."""
    metrics = _all_metrics(stage)
    return {
        "better": {name: metric.better for name, metric in metrics.items() if metric.better},
        "meanings": {name: (inspect.getdoc(metric) or "").partition("\n\n")[0] for name, metric in metrics.items()},
    }


def _describe_parts(stage: Stage, evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Returns the column `data.route` and the number of examples by its value; nothing for other data."""
    counts = {value: len(part.index) for value, part in evaluation.parts.items()}
    return {"route": {"column": stage.settings.data.route, "examples": counts}} if counts else {}


def _tables(stage: Stage, evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Returns the values of metrics that are no number, by metric and network."""
    tables: dict[str, dict[str, Any]] = {}
    for name in stage.evaluation.networks:
        for key, metric in stage.evaluation.metrics.items():
            value = evaluation.values[name].get(key)
            if value is not None and not isinstance(value, float) and not metric.needs_reference:
                tables.setdefault(key, {})[name] = value
    return tables


def _arrays(stage: Stage, evaluation: Evaluation, saliency: Saliency | None) -> dict[str, np.ndarray]:
    """Returns the arrays of `predictions.npz`."""
    task = stage.data.task
    arrays = {"index": evaluation.index} | task.in_units(evaluation.truth) | _sheet(stage, evaluation)
    for name, predicted in evaluation.predictions.items():
        arrays |= {f"{key}/{name}": array for key, array in task.in_units(predicted).items()}
        scored = {"label": evaluation.label, **evaluation.truth, **predicted}
        arrays |= {f"{SCORE}/{key}/{name}": score for key, score in _score_examples(stage, scored).items()}
    maps = saliency.maps if saliency else {}
    return arrays | {f"saliency/{name}": values for name, values in maps.items()}


def _score_examples(stage: Stage, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the scores of examples by each metric of the task, or of the evaluation, that gives them, float32."""
    metrics = {name: metric for name, metric in _all_metrics(stage).items() if isinstance(metric, ExampleMetric)}
    fitting = {name: metric for name, metric in metrics.items() if {*metric.scored} <= arrays.keys()}
    return {name: metric.score(arrays).astype(np.float32) for name, metric in fitting.items()}


def _all_metrics(stage: Stage) -> dict[str, Metric | GatheringMetric]:
    task = stage.data.task
    return {name: task.metric(name) for name in task.metrics} | dict(stage.evaluation.metrics)


def _sheet(stage: Stage, evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Returns the images on which networks disagree; texts are not shown."""
    if "disagreements" not in stage.data.task.figures:
        return {}
    index = evaluation.index[disagreements(stage, evaluation)]
    image = stage.data.dataset.split(stage.settings.evaluate.split).take(index)["image"]
    return {"sheet/index": index, "sheet/image": to_bytes(image)}


def _numbers(evaluation: Evaluation, name: str) -> dict[str, Number]:
    """Returns the numbers of a network, and as `METRIC:VALUE` those of the examples with a value of `data.route`."""
    of_parts = {route: part.values[name] for route, part in evaluation.parts.items()}
    return {key: _finite(value) for key, value in gather_numbers(evaluation.values[name], of_parts).items()}


def _means(rows: Sequence[Mapping[str, Number]]) -> dict[str, Number]:
    def mean(values: Sequence[Number]) -> Number:
        return None if None in values else sum(values) / len(values)

    return {key: mean([row[key] for row in rows]) for key in rows[0]}


def _pair_rows(stage: Stage, evaluation: Evaluation, saliency: Saliency | None) -> list[dict[str, Any]]:
    """Returns a row for each pair of networks: numbers, and tables if a metric gives one."""
    rows = []
    for pair in stage.evaluation.pairs:
        row = {"network": pair[0], "reference": pair[1]}
        metrics = [key for key in stage.evaluation.metrics if key in evaluation.pairs[pair]]
        values = {key: evaluation.pairs[pair][key] for key in metrics}
        row |= {key: value for key, value in values.items() if not isinstance(value, float)}
        of_parts = {route: part.pairs[pair] for route, part in evaluation.parts.items()}
        row |= {key: _finite(value) for key, value in gather_numbers(values, of_parts).items()}
        rows.append(row | ({"saliency": saliency.pairs[pair]} if saliency and pair in saliency.pairs else {}))
    return rows


def _finite(value: float) -> Number:
    return value if math.isfinite(value) else None


def disagreements(stage: Stage, evaluation: Evaluation) -> np.ndarray:
    """Chooses the examples, as rows, on which the networks of some pair differ, those of most pairs first."""
    classes = {name: rows["prediction"] for name, rows in evaluation.predictions.items() if "prediction" in rows}
    pairs = [pair for pair in stage.evaluation.pairs if set(pair) <= set(classes)]
    counts = np.zeros(len(evaluation.label), int)
    for left, right in pairs:
        counts += classes[left] != classes[right]
    order = np.argsort(-counts, kind="stable")
    return order[counts[order] > 0][:SHEET]
