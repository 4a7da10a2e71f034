"""Stages of kind "merge": several finished networks of one model become one, by their weights (`merging`).

    stages.merge = dict(
        kind="merge",
        networks=dict(a=dict(like="teacher", weights="stage:teach_a"), b=dict(like="teacher", weights="stage:teach_b")),
        merge=dict(networks=("a", "b"), rule="average", align=True),
    )

The result is the network `into` of the stage's checkpoint: `weights="stage:merge#merged"`. Nothing is trained. With
`align` the networks' units are permuted first, to match those of `base` if there is one, else each other. With
`recalibrate` batch statistics, which are averaged otherwise, are computed anew from the training split.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.config.parse import option
from jaxdistill.config.schema import StageSettings
from jaxdistill.core import Variables
from jaxdistill.merging import permutations, rules, weight_matching
from jaxdistill.runtime import preemption
from jaxdistill.stages import derived_network, merge_checks, merge_data, start_weights
from jaxdistill.stages.merge_data import jit_replicated


@dataclasses.dataclass(frozen=True)
class MergeConfig:
    networks: tuple[str, ...] = option((), "networks to merge")
    into: str = option("merged", "name of the result")
    rule: str = option("average", "rule of merging")
    weights: tuple[Any, ...] = option((), "weights of the networks; equal if empty")
    base: str = option("", "the network that task vectors start from")
    align: bool = option(False, "whether permutations are matched first")
    density: float = option(0.2, "fraction of a task vector that TIES keeps")
    drop: float = option(0.5, "fraction of a task vector that DARE drops")
    scale: float = option(1.0, "factor of the sum of task vectors")
    examples: int = option(0, "examples of Fisher information; 0 for all", least=0)
    split: str = option("validation", "split of a greedy soup")
    recalibrate: bool = option(True, "whether batch statistics are measured anew")


@dataclasses.dataclass(frozen=True)
class MergeSettings(StageSettings):
    """Settings of a stage that merges networks."""

    merge: MergeConfig = option(MergeConfig, "the merge")


class Merge(Kind):
    """Merges the weights of finished networks into one network."""

    settings = MergeSettings

    def saved(self, stage: Stage) -> list[str]:
        return [stage.settings.merge.into]

    def template(self, stage: Stage, name: str) -> str:
        return stage.settings.merge.networks[0]

    def check(self, stage: Stage) -> None:
        merge_checks.check_settings(stage)
        super().check(stage)
        merge_checks.check_networks(stage)

    def describe(self, stage: Stage) -> list[str]:
        spec = stage.settings.merge
        aligned = ", aligned" if spec.align else ""
        base = f", about {spec.base}" if spec.base else ""
        return [f"  merge: {spec.rule} of {', '.join(spec.networks)}{aligned}{base}, as {spec.into!r}"]

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        metadata = merge(stage, start_weights.read(stage.runs, workdir), workdir / stage.name)
        members = ", ".join(metadata.get("kept_by_soup", metadata["networks"]))
        log(f"stage {stage.name}: {metadata['into']!r} is made of {members} by {metadata['rule']}")
        return metadata


def merge(stage: Stage, variables: Mapping[str, Variables], folder: pathlib.Path) -> dict[str, Any]:
    """Merges the networks of a stage, and saves the result as a checkpoint of step 1.

    Args:
        stage: the stage.
        variables: those of the networks, by name; every device holds all of them.
        folder: the stage's own.

    Returns:
        The metadata for `done.json`: the rule, L2 distances between params before and after alignment (to the base, or
        to the first network), and for a soup the accuracies and its members.
    """
    spec = stage.settings.merge
    inputs = {name: variables[name] for name in (*spec.networks, *([spec.base] if spec.base else []))}
    inputs = jit_replicated(stage)(inputs)
    metadata = {"rule": spec.rule, "networks": list(spec.networks), "into": spec.into}
    if "base" in merge_checks.rule_parameters(stage):
        metadata["base"] = spec.base or "the mean of the networks"
    if spec.align:
        with preemption.losing_nothing():
            inputs, metadata["distance"] = _align(stage, inputs)
    merged, details = _combine(stage, inputs)
    return derived_network.save(stage, spec.into, merged, folder) | metadata | details


def _align(stage: Stage, inputs: dict[str, Variables]) -> tuple[dict[str, Variables], dict[str, dict[str, float]]]:
    """Permutes the units of the networks; returns also the distances before and after."""
    spec, key = stage.settings.merge, jax.random.key(stage.settings.seed)
    names, base, symmetry = list(spec.networks), spec.base, merge_checks.find_permutations(stage)
    before = jax.device_get(inputs)
    if base:
        checked = preemption.checked(names)
        matches = {name: weight_matching.match(before[base], before[name], symmetry, key) for name in checked}
        after = {name: _permute(before[name], symmetry, matches[name]) for name in names} | {base: before[base]}
    else:
        trees = weight_matching.match_all([before[name] for name in names], symmetry, key)
        after = dict(zip(names, trees, strict=True))
    if jax.process_count() > 1:  # sums may round differently on another host
        after = multihost_utils.broadcast_one_to_all(after)
    target = base or names[0]
    distances = {
        name: {
            "before": weight_matching.distance(before[target], before[name]),
            "after": weight_matching.distance(after[target], after[name]),
        }
        for name in names
        if name != target
    }
    return jit_replicated(stage)(jax.device_get(after)), distances


def _permute(variables: Variables, symmetry: permutations.Spec, match: Any) -> Variables:
    return weight_matching.apply_permutation(variables, symmetry, match)


def _combine(stage: Stage, inputs: Mapping[str, Variables]) -> tuple[Variables, dict[str, Any]]:
    """Applies the rule and recalibrates; returns also metadata."""
    spec = stage.settings.merge
    networks = [inputs[name] for name in spec.networks]
    recalibrated = spec.recalibrate and "batch_stats" in networks[0]
    finish = merge_data.make_recalibrate(stage) if recalibrated else lambda variables: variables
    metadata: dict[str, Any] = {"recalibrated": bool(recalibrated)}
    rule, parameters = merge_checks.find_rule(stage), merge_checks.rule_parameters(stage)
    if "score" in parameters:
        accuracy = merge_data.accuracy_on_split(stage)
        soup = rule(networks, score=lambda variables: accuracy(finish(variables)))
        alone = dict(zip(spec.networks, soup.member_scores, strict=True))
        metadata |= {"kept_by_soup": [spec.networks[i] for i in soup.members], "split": spec.split}
        return finish(soup.tree), metadata | {"accuracy": soup.score, "accuracy_alone": alone}
    base = inputs[spec.base]["params"] if spec.base else None
    fishers = [merge_data.fisher_of(stage, variables) for variables in networks] if "fishers" in parameters else None

    def combine(networks: list[Variables], base: Any, fishers: Any) -> Variables:
        numbers = {"weights": spec.weights, "density": spec.density, "drop": spec.drop, "scale": spec.scale}
        arguments = numbers | {"base": base, "fishers": fishers, "key": jax.random.key(stage.settings.seed)}
        chosen = {name: arguments[name] for name in parameters}
        return rules.with_statistics(functools.partial(rule, **chosen), networks, spec.weights)

    return finish(jit_replicated(stage, combine)(networks, base, fishers)), metadata
