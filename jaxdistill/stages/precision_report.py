"""The accuracy that bfloat16 or int8 networks lose: measured once a stage, on a part of a split."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxdistill.build.runs import Runs, Weights
from jaxdistill.build.stage import Stage
from jaxdistill.core import Variables, lists_all_classes, prediction_shape
from jaxdistill.networks import ForInference
from jaxdistill.runtime import preemption
from jaxdistill.train.evaluate import Plan, evaluate

EXAMPLES = 2_048
"""The number of examples to measure on, rounded up to whole batches; all of a smaller split."""


def report(runs: Runs, weights: Weights, log: Callable[[str], None]) -> dict[str, Any]:
    """Compares every network in bfloat16 or int8 with itself in float32, and prints a line for each.

    Args:
        runs: those of the stage; of several, the first is measured.
        weights: the variables of the networks that have weights, as they were trained.
        log: prints a line.

    Returns:
        `{"reduced": {network: {...}}}` for `done.json`, or nothing if no network is reduced.
    """
    stage, first, rows = runs.stage, runs.first(weights), {}
    for name, source in stage.networks.items():
        if not (isinstance(source, ForInference) and source.is_reduced_precision) or name not in first:
            continue
        form = source.quantize or "bfloat16"
        roles = [role for role in (stage.settings.evaluate.split, "test") if role in stage.data.dataset.splits]
        if obstacle := _obstacle(stage, name, roles):
            log(f"stage {stage.name}: network {name!r} in {form}: its change is not measured; {obstacle}")
            continue
        row = {"form": form, "split": roles[0]} | runs.first_metadata(name)
        rows[name] = row | _measure(stage, name, first[name], roles[0])
        log(f"stage {stage.name}: network {name!r} in {form}: {_describe(rows[name])}")
    return {"reduced": rows} if rows else {}


def _obstacle(stage: Stage, name: str, roles: list[str]) -> str:
    """Returns the reason for which a network cannot be measured; "" if it can."""
    logits, task = stage.shapes.outputs[name].logits, stage.data.task
    if not roles:
        return "the data have no split to measure it on"
    if len(prediction_shape(logits)) != len(task.axes):
        return f"it has no prediction per {task.unit}"
    return "" if lists_all_classes(logits) else "its logits list the likeliest classes"


def _measure(stage: Stage, name: str, variables: Variables, role: str) -> dict[str, Any]:
    source = stage.networks[name]
    plan = Plan(
        networks={"reduced": source, "exact": source.full_precision},
        names=["reduced", "exact"],
        metrics={key: stage.data.task.metric(key) for key in ("accuracy", "agreement", "kl")},
        prepare=stage.data.prepare,
        reference="exact",
    )
    reduced = jax.jit(lambda x: source.for_inference(x, stage.data.batch))(variables)
    batches = itertools.islice(stage.data.batches(role), -(-EXAMPLES // stage.data.evaluation_batch_size))
    batches = preemption.checked(batches)
    evaluation = evaluate(plan, stage.mesh, ({}, {}, {"reduced": reduced, "exact": variables}), batches)
    values, exact = evaluation.values["reduced"], evaluation.values["exact"]
    accuracy = {"accuracy": values["accuracy"], "exact_accuracy": exact["accuracy"]}
    return accuracy | {"agreement": values["agreement"], "kl": values["kl"], "examples": len(evaluation.label)}


def _describe(row: Mapping[str, Any]) -> str:
    lane = ", of lane 0" if "lane" in row else ""
    return (
        f"accuracy {row['exact_accuracy']:.4f} -> {row['accuracy']:.4f}, agreement {row['agreement']:.4f}, KL"
        f" {row['kl']:.2g} nats, on {row['examples']:,} examples of the {row['split']} split{lane}"
    )
