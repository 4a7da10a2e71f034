"""Stages of kind "merge": several finished networks of one model become one, by their weights (`compress.merge`).

    stages.merge = dict(
        kind="merge",
        networks=dict(a=dict(like="teacher", weights="stage:teach_a"), b=dict(like="teacher", weights="stage:teach_b")),
        merge=dict(networks=("a", "b"), rule="average", align=True),
    )

The result is the network `into` of the stage's checkpoint: `weights="stage:merge#merged"`. Nothing is trained. With
`align` the networks' units are permuted first: to stand as in `base` where there is one, else as in each other. With
`recalibrate` batch statistics, which are averaged otherwise, are computed anew from the training split.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxdistill import metrics, networks
from jaxdistill.build import weights
from jaxdistill.build.stage import Stage
from jaxdistill.core import State, Variables, split_params
from jaxdistill.data import loader
from jaxdistill.errors import UserError, check_fraction, check_names, unknown
from jaxdistill.merging import permutations, rules, weight_matching
from jaxdistill.merging.fisher import diagonal_fisher
from jaxdistill.train import mesh
from jaxdistill.train.checkpoint import Checkpoints
from jaxdistill.train.evaluate import Evaluator, Plan

EXACT = 100
"""The number of classes up to which the Fisher information is the exact expectation over them; above, one draw."""


def _average(spec, base, key, fishers):
    return functools.partial(rules.average, weights=spec["weights"])


def _slerp(spec, base, key, fishers):
    return functools.partial(rules.slerp, weights=spec["weights"])


def _fisher(spec, base, key, fishers):
    return lambda trees: rules.fisher_weighted(trees, fishers, spec["weights"])


def _task_arithmetic(spec, base, key, fishers):
    return functools.partial(rules.task_arithmetic, base=base, scale=spec["scale"])


def _ties(spec, base, key, fishers):
    return functools.partial(rules.ties, base=base, density=spec["density"], scale=spec["scale"])


def _dare(spec, base, key, fishers, then=_task_arithmetic):
    def merged(trees):
        about = rules.average(trees) if base is None else base
        return then(spec, about, key, fishers)(rules.drop_and_rescale(trees, key, about, spec["drop"]))

    return merged


RULES: dict[str, Callable[..., Callable] | None] = {
    "average": _average,
    "soup": None,
    "fisher": _fisher,
    "slerp": _slerp,
    "task_arithmetic": _task_arithmetic,
    "ties": _ties,
    "dare": _dare,
    "dare_ties": functools.partial(_dare, then=_ties),
}
"""rule -> how to make it: `(settings, params of the base, key, fishers) -> (trees -> tree)`; the greedy soup scores."""

WEIGHTED = ("average", "fisher", "slerp")
ABOUT = ("task_arithmetic", "ties", "dare", "dare_ties")
"""The rules that take `weights`, and those that take a `base`."""


def check(stage: Stage) -> None:
    """Raises `UserError` for what a stage of kind "merge" cannot do; any other passes."""
    if stage.settings["kind"] != "merge":
        return
    spec = stage.settings["merge"]
    names, rule, what = list(spec["networks"]), spec["rule"], f"stage {stage.name!r}"
    check_names(f"network for {what}, merge.networks", names, stage.networks)
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UserError(f"{what} merges {names}; merge.networks are two or more different ones of {[*stage.networks]}")
    if rule not in RULES:
        raise unknown(f"rule for {what}, merge.rule", rule, RULES)
    if not spec["into"].replace("-", "_").isidentifier() or spec["into"] in stage.networks:
        raise UserError(
            f"{what}: merge.into={spec['into']!r} is the name of the new network, a word like 'merged', and none of"
            f" {[*stage.networks]}"
        )
    _check_base(stage, names, spec)
    if spec["weights"] and rule not in WEIGHTED:
        raise UserError(f"{what}: rule {rule!r} takes no merge.weights; leave them out, or take one of {WEIGHTED}")
    try:
        rules.average([{"x": np.zeros(1, np.float32)}] * len(names), spec["weights"])
        check_fraction("merge.drop", spec["drop"])
    except (UserError, TypeError) as error:
        raise UserError(f"{what}: {error}; merge.networks are {names}") from error
    if not math.isfinite(spec["scale"]):
        raise UserError(f"{what}: merge.scale={spec['scale']} makes no sense; it is finite")
    if not 0 < spec["density"] <= 1:
        raise UserError(f"{what}: merge.density={spec['density']} makes no sense; it is more than 0 and at most 1")
    if rule == "soup":
        stage.dataset.split(spec["split"])
    _check_alike(stage, [*names, *([spec["base"]] if spec["base"] else [])])
    if spec["align"]:
        _symmetry(stage)
    if spec["recalibrate"]:
        _momenta(stage)


def _check_base(stage, names, spec):
    base, rule, what = spec["base"], spec["rule"], f"stage {stage.name!r}"
    if not base:
        if rule == "task_arithmetic" or (rule == "ties" and len(names) == 2):
            raise UserError(
                f"{what}: rule {rule!r} of {len(names)} networks about their own mean is their average; name the"
                " network that they were fine-tuned from as merge.base, or set merge.rule='average'"
            )
        return
    if rule not in ABOUT:
        raise UserError(f"{what}: rule {rule!r} takes no merge.base; leave it out, or take one of {ABOUT}")
    check_names(f"network for {what}, merge.base", [base], stage.networks)
    if base in names:
        raise UserError(f"{what}: {base!r} is merge.base and one of merge.networks {names}; it can be one of the two")


def _check_alike(stage: Stage, names: list[str]) -> None:
    first = stage.networks[names[0]]
    for name in names:
        source = stage.networks[name]
        if not isinstance(source, networks.Trained):
            raise UserError(f"stage {stage.name!r}: network {name!r} has no weights of its own that could be merged")
        weights.check_same(
            f"stage {stage.name!r}: {name!r}, to be merged with {names[0]!r},", stage.fresh[name], stage.fresh[names[0]]
        )
        kinds = [(repr(each.module), stage.looks[n]) for n, each in ((names[0], first), (name, source))]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"stage {stage.name!r}: {names[0]!r} and {name!r} are not one model of the same images; merge equal"
                f" networks:\n  - {' '.join(str(kinds[0]).split())}\n  + {' '.join(str(kinds[1]).split())}"
            )


def _first(stage: Stage) -> networks.Trained:
    return stage.networks[stage.settings["merge"]["networks"][0]]


def _shapes(stage: Stage) -> Variables:
    return stage.fresh[stage.settings["merge"]["networks"][0]]


def _symmetry(stage: Stage) -> permutations.Spec:
    source = _first(stage)
    images = jax.eval_shape(source.look, stage.batch)
    try:
        return permutations.permutations(
            lambda v, x: source.module.apply(v, x, train=False).logits, _shapes(stage), images
        )
    except UserError as error:
        raise UserError(f"stage {stage.name!r}: merge.align=True: {error}") from error


def _momenta(stage: Stage) -> dict[str, float]:
    """How much of its old statistics each normalisation keeps, by its path in the collection."""
    found, source, shapes = {}, _first(stage), _shapes(stage)

    def note(call, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm):
            found["/".join(context.module.path)] = context.module.momentum
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        images = jax.eval_shape(source.look, stage.batch)
        jax.eval_shape(lambda v, x: source.module.apply(v, x, train=False), shapes, images)
    held = jax.tree_util.tree_leaves_with_path(shapes.get("batch_stats", {}))
    strange = sorted({_owner(path) for path, _ in held} - {name for name, momentum in found.items() if momentum < 1})
    if strange:
        raise UserError(
            f"stage {stage.name!r}: the statistics of {strange[:4]} are not those of a BatchNorm that moves, and cannot"
            " be computed anew; set merge.recalibrate=False"
        )
    return found


def _owner(path) -> str:
    return "/".join(part.key for part in path[:-1])


def run(stage: Stage, known: Mapping[str, Variables], folder: pathlib.Path) -> dict[str, Any]:
    """Merges the networks of a stage, and saves the result as a checkpoint of step 1.

    Args:
        known: the variables of the networks, by name. They are held whole on every device.
        folder: the stage's own.

    Returns:
        What is told in `done.json`: the rule, L2 distances between params before and after alignment (to the base, or
        to the first), and for a soup the accuracies and who was kept.
    """
    spec = stage.settings["merge"]
    chosen = {name: known[name] for name in (*spec["networks"], *([spec["base"]] if spec["base"] else []))}
    chosen = _everywhere(stage)(chosen)
    told = {"rule": spec["rule"], "networks": list(spec["networks"]), "into": spec["into"]}
    if spec["rule"] in ABOUT:
        told["base"] = spec["base"] or "the mean of the networks"
    if spec["align"]:
        chosen, told["distance"] = _aligned(stage, chosen)
    merged, facts = _merged(stage, chosen)

    def saved(merged):
        params, rest = split_params(merged)
        key = jax.random.key(stage.settings["seed"])
        return State(jnp.int32(1), key, {spec["into"]: params}, {spec["into"]: rest}, ())

    state = _everywhere(stage, saved)(merged)
    looks = {spec["into"]: dataclasses.asdict(stage.looks[spec["networks"][0]])}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state, {}, {"stage": stage.name, "networks": [spec["into"]], "looks": looks})
        checkpoints.wait()
    return {"step": 1, "kept": "last"} | told | facts


def _everywhere(stage: Stage, function: Callable = lambda tree: tree) -> Callable:
    """Compiles a function whose results every device of every process holds whole."""
    return jax.jit(function, out_shardings=mesh.replicated(stage.mesh))


def _aligned(stage: Stage, chosen: dict[str, Variables]) -> tuple[dict[str, Variables], dict[str, dict[str, float]]]:
    names, key = list(stage.settings["merge"]["networks"]), jax.random.key(stage.settings["seed"])
    base, spec = stage.settings["merge"]["base"], _symmetry(stage)
    before = jax.device_get(chosen)
    if base:
        found = {name: weight_matching.match(before[base], before[name], spec, key) for name in names}
        after = {name: weight_matching.apply_permutation(before[name], spec, found[name]) for name in names} | {
            base: before[base]
        }
    else:
        after = dict(zip(names, weight_matching.match_all([before[name] for name in names], spec, key), strict=True))
    if jax.process_count() > 1:  # sums may round differently on another host
        after = multihost_utils.broadcast_one_to_all(after)
    to = base or names[0]
    told = {
        name: {
            "before": weight_matching.distance(before[to], before[name]),
            "after": weight_matching.distance(after[to], after[name]),
        }
        for name in names
        if name != to
    }
    return _everywhere(stage)(jax.device_get(after)), told


def _merged(stage: Stage, chosen: Mapping[str, Variables]) -> tuple[Variables, dict[str, Any]]:
    spec = stage.settings["merge"]
    own = [chosen[name] for name in spec["networks"]]
    recalibrate = spec["recalibrate"] and "batch_stats" in own[0]
    finish = _recalibration(stage) if recalibrate else lambda variables: variables
    told = {"recalibrated": bool(recalibrate)}
    if spec["rule"] == "soup":
        accuracy = _accuracy(stage)
        soup = rules.greedy_soup(own, lambda variables: accuracy(finish(variables)))
        names = spec["networks"]
        alone = dict(zip(names, soup.alone, strict=True))
        told |= {"kept_by_soup": [names[i] for i in soup.kept], "split": spec["split"]}
        return finish(soup.tree), told | {"accuracy": soup.score, "accuracy_alone": alone}
    base = chosen[spec["base"]]["params"] if spec["base"] else None
    fishers = [_fisher_of(stage, variables) for variables in own] if spec["rule"] == "fisher" else None

    def combine(own, base, fishers):
        rule = RULES[spec["rule"]](spec, base, jax.random.key(stage.settings["seed"]), fishers)
        return rules.with_statistics(rule, own, spec["weights"])

    return finish(_everywhere(stage, combine)(own, base, fishers)), told


def _accuracy(stage: Stage) -> Callable[[Variables], float]:
    name = stage.settings["merge"]["networks"][0]
    chosen = {"accuracy": metrics.find("accuracy")}
    plan = Plan(networks=stage.networks, names=[name], metrics=chosen, prepare=stage.prepare)
    evaluator = Evaluator(plan.step, stage.mesh)

    def accuracy(variables: Variables) -> float:
        batches = evaluator.stream(stage.once(stage.settings["merge"]["split"]))
        total = evaluator.evaluate(({}, {}, {name: variables}), batches)
        return plan.finish(*total).values[name]["accuracy"]

    return accuracy


def _fisher_of(stage: Stage, variables: Variables) -> Any:
    """The diagonal Fisher information of a network on `merge.examples` of the training split."""
    source, size = _first(stage), stage.settings["batch"]
    params, rest = split_params(variables)
    ways = stage.mesh.shape["data"] * stage.mesh.shape["fsdp"]
    rows = ways * max(n for n in range(1, 9) if size // ways % n == 0)

    def apply(params, batch):
        return source({"params": params} | dict(rest), batch, {}, None)[0].logits

    count = min(stage.settings["merge"]["examples"] or len(stage.train), len(stage.train))
    prepare = jax.jit(
        lambda batch: {n: x for n, x in stage.prepare(batch).items() if n in (source.input, "index", "mask")}
    )
    batches = (prepare(mesh.put(stage.mesh, batch)) for batch in _dealt(stage, count))
    samples = 1 if stage.dataset.classes > EXACT else 0
    return diagonal_fisher(apply, params, batches, rows, samples, jax.random.key(stage.settings["seed"]))


def _dealt(stage: Stage, count: int) -> Iterator[dict[str, np.ndarray]]:
    """The first `count` examples in the order of training, unaugmented, in whole batches with a mask."""
    size = stage.settings["batch"]
    batches = loader.Streamed(stage.train, stage.data_seed, size, stage.dataset.classes, stage.part)
    for step in range(math.ceil(count / size)):
        places = np.arange(step * size, (step + 1) * size)[stage.part.rows(size)]
        yield batches[step] | {"mask": (places < count).astype(np.float32)}


def _recalibration(stage: Stage) -> Callable[[Variables], Variables]:
    """What computes a network's batch statistics anew: the averages of those of the batches of one pass over the
    training split, shuffled and unaugmented, in whole batches (the last filled up from the next pass).

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018,
    https://arxiv.org/abs/1803.05407, algorithm 1, as its authors' `bn_update`; without it the variances of a merged
    network collapse: Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR 2023,
    https://arxiv.org/abs/2211.08403.
    """
    momenta = _momenta(stage)
    source = _first(stage)
    source = networks.Trained(source.module, source.input, source.preprocess)

    def add(total, variables, batch, number):
        key = jax.random.fold_in(jax.random.key(stage.settings["seed"]), number)
        zero = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
        _, changed = source(dict(variables) | {"batch_stats": zero}, stage.prepare(batch), {}, key)
        # What moves from 0 by 1 - momentum towards the batch's statistics, divided by that, are these.
        own = jax.tree_util.tree_map_with_path(lambda path, x: x / (1 - momenta[_owner(path)]), changed["batch_stats"])
        return jax.tree.map(jnp.add, total, own)

    add = _everywhere(stage, add)
    zeros = _everywhere(stage, lambda tree: jax.tree.map(jnp.zeros_like, tree))

    def recalibrated(variables):
        total, number = zeros(variables["batch_stats"]), 0
        for number, batch in enumerate(_dealt(stage, len(stage.train)), start=1):
            total = add(total, variables, mesh.put(stage.mesh, batch), number)
        return dict(variables) | {"batch_stats": jax.tree.map(lambda x: x / number, total)}

    return recalibrated
