"""What networks that speak in fewer bits lose by it: measured once a stage, on a part of a split."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxdistill.core import lists_all_classes, prediction_shape
from jaxdistill.networks import ForInference
from jaxdistill.stages.runs import Runs, Weights
from jaxdistill.train.evaluate import Plan, evaluate

EXAMPLES = 2_048
"""Of how many examples, rounded up to whole batches, at most."""


def report(runs: Runs, weights: Weights, say: Callable[[str], None]) -> dict[str, Any]:
    """Compares every network in bfloat16 or int8 with itself in float32, and says a line of each.

    Args:
        runs: those of the stage; of several, the first is measured.
        weights: the variables of the networks that have weights, as they were trained.
        say: prints a line.

    Returns:
        `{"reduced": {network: {...}}}` for `done.json`, or nothing where no network is reduced.
    """
    stage, first, found = runs.stage, runs.first(weights), {}
    for name, source in stage.networks.items():
        if not (isinstance(source, ForInference) and source.is_reduced_precision) or name not in first:
            continue
        form = source.quantize or "bfloat16"
        role = next((role for role in (stage.settings.evaluate.split, "test") if role in stage.data.dataset.splits), "")
        said = stage.shapes.outputs[name].logits
        unit = stage.data.task.unit
        fits = len(prediction_shape(said)) == len(stage.data.task.axes)
        if not role or not lists_all_classes(said) or not fits:
            why = "its logits list the likeliest classes" if fits else f"it has no prediction per {unit}"
            why = why if role else "the data have no split to measure it on"
            say(f"stage {stage.name}: network {name!r} in {form}: its change is not measured; {why}")
            continue
        of = runs.first_metadata(name)
        found[name] = {"form": form, "split": role} | of | _measured(runs, name, first[name], role)
        say(f"stage {stage.name}: network {name!r} in {form}: {_told(found[name])}")
    return {"reduced": found} if found else {}


def _measured(runs: Runs, name: str, variables: Any, role: str) -> dict[str, Any]:
    stage = runs.stage
    source = stage.networks[name]
    wanted = {key: stage.data.task.metric(key) for key in ("accuracy", "agreement", "kl")}
    plan = Plan(
        networks={"reduced": source, "exact": source.full_precision},
        names=["reduced", "exact"],
        metrics=wanted,
        prepare=stage.data.prepare,
        reference="exact",
    )
    reduced = jax.jit(lambda own: source.for_inference(own, stage.data.batch))(variables)
    known = {"reduced": reduced, "exact": variables}
    batches = itertools.islice(stage.data.batches(role), -(-EXAMPLES // stage.data.evaluation_batch_size))
    seen = evaluate(plan, stage.mesh, ({}, {}, known), batches)
    own = seen.values["reduced"]
    accuracy = {"accuracy": own["accuracy"], "exact_accuracy": seen.values["exact"]["accuracy"]}
    return accuracy | {"agreement": own["agreement"], "kl": own["kl"], "examples": len(seen.label)}


def _told(row: Mapping[str, Any]) -> str:
    of = ", of lane 0" if "lane" in row else ""
    return (
        f"accuracy {row['exact_accuracy']:.4f} -> {row['accuracy']:.4f}, agreement {row['agreement']:.4f}, KL"
        f" {row['kl']:.2g} nats, on {row['examples']:,} examples of the {row['split']} split{of}"
    )
