"""Checks of stages of kind "merge": the rule and its settings, and networks of one model."""

import math

import jax
import numpy as np

from jaxdistill import networks
from jaxdistill.build import weights
from jaxdistill.build.origins import image_specs
from jaxdistill.build.stage import Stage
from jaxdistill.config import registry
from jaxdistill.errors import UserError, check_fraction, check_names
from jaxdistill.merging import permutations, rules
from jaxdistill.stages import merge_data


def find_rule(stage: Stage) -> rules.Rule:
    """Returns the rule that a stage names.

    Raises:
        UserError: if there is none of that name.
    """
    return registry.find("merge_rule", stage.settings.merge.rule, f"stages.{stage.name}.merge.rule")


def rule_parameters(stage: Stage) -> list[str]:
    """Returns the parameters of the rule that a stage names (`rules.PARAMETERS`)."""
    return rules.parameters_of(find_rule(stage))


def _rules_with(parameter: str) -> tuple[str, ...]:
    return tuple(name for name, rule in rules.RULES.items() if parameter in rules.parameters_of(rule))


def check_settings(stage: Stage) -> None:
    """Raises `UserError` for settings of `merge` that contradict each other or name no network or rule."""
    spec, path = stage.settings.merge, f"stage {stage.name!r}"
    names = list(spec.networks)
    check_names(f"network for {path}, merge.networks", names, stage.networks)
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UserError(f"{path} merges {names}; merge.networks are two or more different ones of {[*stage.networks]}")
    parameters = rule_parameters(stage)
    if not spec.into.replace("-", "_").isidentifier() or spec.into in stage.networks:
        raise UserError(
            f"{path}: merge.into={spec.into!r} is the name of the new network, a word such as 'merged', and none of"
            f" {[*stage.networks]}"
        )
    _check_base(stage)
    if spec.weights and "weights" not in parameters:
        able = _rules_with("weights")
        raise UserError(f"{path}: rule {spec.rule!r} takes no merge.weights; leave them out, or take one of {able}")
    try:
        rules.average([{"x": np.zeros(1, np.float32)}] * len(names), spec.weights)
        check_fraction("merge.drop", spec.drop)
    except (UserError, TypeError) as error:
        raise UserError(f"{path}: {error}; merge.networks are {names}") from error
    if not math.isfinite(spec.scale):
        raise UserError(f"{path}: merge.scale must be finite, got {spec.scale}")
    if not 0 < spec.density <= 1:
        raise UserError(f"{path}: merge.density must be more than 0 and at most 1, got {spec.density}")
    if "score" in parameters:
        stage.data.dataset.split(spec.split)
    offloaded = [name for name, rules in stage.shapes.partitioner.networks.items() if rules.offload]
    if offloaded:
        raise UserError(f"{path} merges the weights of {offloaded}; set offload=False for them in this stage")


def _check_base(stage: Stage) -> None:
    spec, path = stage.settings.merge, f"stage {stage.name!r}"
    names, base, rule = list(spec.networks), spec.base, spec.rule
    if not base:
        if rule == "task_arithmetic" or (rule == "ties" and len(names) == 2):
            raise UserError(
                f"{path}: rule {rule!r} of {len(names)} networks about their own mean is their average; name the"
                " network that they were fine-tuned from as merge.base, or set merge.rule='average'"
            )
        return
    if "base" not in rule_parameters(stage):
        able = _rules_with("base")
        raise UserError(f"{path}: rule {rule!r} takes no merge.base; leave it out, or take one of {able}")
    check_names(f"network for {path}, merge.base", [base], stage.networks)
    if base in names:
        raise UserError(f"{path}: {base!r} is merge.base and one of merge.networks {names}; it can be one of the two")


def check_networks(stage: Stage) -> None:
    """Raises `UserError` unless the networks are of one model, and can be aligned and recalibrated if they must."""
    spec = stage.settings.merge
    if "image" not in stage.data.task.fields and (
        "fishers" in rule_parameters(stage) or spec.align or _scores_tokens(stage)
    ):
        aligned = " with align=True" if spec.align else ""
        raise UserError(
            f"stage {stage.name!r} is of kind 'merge', and its rule {spec.rule!r}{aligned} needs images with labels,"
            f" and {stage.settings.data.name!r} has texts; take a rule of weights alone, such as 'average'"
        )
    first, specs, shapes = spec.networks[0], image_specs(stage), stage.shapes.variables
    for name in [*spec.networks, *([spec.base] if spec.base else [])]:
        source = stage.networks[name]
        if not isinstance(source, networks.Trained):
            raise UserError(f"stage {stage.name!r}: network {name!r} has no weights of its own that could be merged")
        path = f"stage {stage.name!r}: {name!r}, to be merged with {first!r},"
        weights.check_same_shapes(path, shapes[name], shapes[first])
        both = {n: stage.networks[n] for n in (first, name)}
        models = [(repr(source.module), specs[n], source.module_class_names) for n, source in both.items()]
        if models[0] != models[-1]:
            raise UserError(
                f"stage {stage.name!r}: {first!r} and {name!r} are not one model of the same images; merge equal"
                f" networks:\n  - {' '.join(str(models[0]).split())}\n  + {' '.join(str(models[-1]).split())}"
            )
    if spec.align:
        find_permutations(stage)
    if spec.recalibrate:
        merge_data.find_momenta(stage)


def _scores_tokens(stage: Stage) -> bool:
    return "score" in rule_parameters(stage) and not stage.data.task.reads_class_labels


def find_permutations(stage: Stage) -> permutations.Spec:
    """Returns the permutations of units that leave the outputs of the stage's networks unchanged.

    Raises:
        UserError: for a model whose permutations cannot be traced.
    """
    name = stage.settings.merge.networks[0]
    source = stage.networks[name]
    images = jax.eval_shape(source.main_input, stage.data.batch)
    try:
        return permutations.permutations(
            lambda v, x: source.module.apply(v, x, train=False).logits, stage.shapes.variables[name], images
        )
    except UserError as error:
        raise UserError(f"stage {stage.name!r}: merge.align=True: {error}") from error
