"""Optimizers and schedules: Optax's, by name."""

import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdistill.config import registry
from jaxdistill.config.members import OptimizerConfig, ScheduleConfig
from jaxdistill.config.parse import plain
from jaxdistill.core import Schedule, path_name
from jaxdistill.errors import UserError, unknown

UNSUPPORTED = ("lbfgs", "rprop", "sm3", "optimistic_adam")
"""Optimizers of Optax that a step cannot use: one evaluates the loss again in its line search, the others take no
schedule for a learning rate."""


@functools.cache
def optimizers() -> dict[str, Callable]:
    """Returns the optimizers of Optax: public functions that take a `learning_rate` and need gradients alone."""
    functions = _members(lambda name, parameters: "learning_rate" in parameters)
    return {n: function for n, function in functions.items() if n not in UNSUPPORTED and n[:9] != "scale_by_"}


@functools.cache
def schedules() -> dict[str, Callable]:
    """Returns the schedules of Optax that plain numbers make, without the suffix `_schedule`."""
    functions = _members(lambda name, parameters: name.endswith("_schedule") or name == "exponential_decay")
    return {n.removesuffix("_schedule"): function for n, function in functions.items() if n[:9] != "scale_by_"}


def _members(keep: Callable[[str, Mapping[str, inspect.Parameter]], bool]) -> dict[str, Callable]:
    functions = {n: f for n, f in vars(optax).items() if inspect.isfunction(f) and not n.startswith("_")}
    return {name: f for name, f in functions.items() if keep(name, inspect.signature(f).parameters)}


def schedule(spec: ScheduleConfig, steps: int, path: str = "learning_rate") -> Schedule:
    """Returns a function of the optimizer step.

    Args:
        spec: the settings; see `docs/config.md` for the forms.
        steps: the length of the run; the default of `decay_steps` and `transition_steps` of Optax's schedules.
        path: the key of the schedule, for messages.

    Raises:
        UserError: for a missing argument, and values that are negative or not finite.
    """
    try:
        function = _make_schedule(spec, steps, path)
        values = [float(function(step)) for step in moments(spec, steps)]
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} must be a schedule, got {plain(spec)!r}. {error}") from error
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise UserError(f"{path} must be at least 0 and finite, got {plain(spec)!r}, which has the values {values}")
    return function


def moments(spec: ScheduleConfig, steps: int) -> list[int]:
    """Returns the steps at which a schedule is checked: its ends and middle, and both sides of its changes."""
    changes = [*(spec.at or ()), *(step for step in (spec.until, spec.over) if step is not None)]
    sides = {step + side for step in changes for side in (-1, 0)}
    return sorted({0, steps // 2, max(steps - 1, 0)} | {step for step in sides if 0 <= step < steps})


def _make_schedule(spec: ScheduleConfig, steps: int, path: str) -> Schedule:
    if spec.until is not None:
        until, inner = spec.until, _make_schedule(dataclasses.replace(spec, until=None), steps, path)
        return lambda step: jnp.where(step < until, inner(step), 0.0)
    if spec.name:
        return _named(spec.name, dict(spec.arguments), steps)
    if spec.values:
        return _piecewise(list(spec.values), list(spec.at or ()))
    if spec.times is not None:
        return optax.piecewise_constant_schedule(spec.start or 0.0, dict.fromkeys(spec.at or (), spec.times))
    if spec.to is not None:
        over = spec.over if isinstance(spec.over, int) else 0
        if over < 1:  # Optax would stay at the start for ever
            return optax.constant_schedule(spec.to)
        return optax.linear_schedule(spec.start or 0.0, spec.to, over)
    return optax.constant_schedule(spec.value or 0.0)


def _piecewise(values: list[float], steps: list[int]) -> Schedule:
    if len(values) != len(steps) + 1 or steps != sorted(steps):
        raise ValueError(
            f"{len(values)} values need {len(values) - 1} steps in order at which they change, got {steps}"
        )
    return lambda step: jnp.asarray(values)[jnp.searchsorted(jnp.asarray(steps), step, side="right")]


def _named(name: str, arguments: dict[str, Any], steps: int) -> Schedule:
    function = registry.find("schedule", name)
    for length in ("decay_steps", "transition_steps"):
        if length in inspect.signature(function).parameters:
            arguments.setdefault(length, steps)
    return _call(f"schedule {name}", function, arguments)


def _call(title: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(function).parameters
    for key in arguments:
        if key not in parameters:
            raise unknown(f"argument of {title}", key, parameters)
    missing = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in arguments]
    if missing:
        raise UserError(f"{title} must have {missing}, got {list(arguments)}. It takes {list(parameters)}")
    try:
        return function(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{title} must have arguments that Optax accepts, got {dict(arguments)}. {error}") from error


def optimizer(spec: OptimizerConfig, rate: Schedule, **traced: jax.Array) -> optax.GradientTransformation:
    """Makes the optimizer.

    If the Optax function has no `weight_decay` of its own, as `sgd`, the decay is added to the gradient (L2, before
    momentum, as in PyTorch).

    Args:
        spec: the settings.
        rate: the learning rate by optimizer step.
        traced: values that replace those of `spec`.
    """
    clip, decay = traced.pop("clip", spec.clip), traced.pop("weight_decay", spec.weight_decay)
    try:
        pattern = re.compile(spec.decay_on)
    except re.error as error:
        raise UserError(f"optimizer.decay_on must be a regular expression, got {spec.decay_on!r}. {error}") from error
    function = registry.find("optimizer", spec.name, "optimizer.name")
    arguments = dict(spec.arguments) | traced

    def mask(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: bool(pattern.search(path_name(path))), params)

    before = [] if _is_zero(clip) else [optax.clip_by_global_norm(clip)]
    parameters = inspect.signature(function).parameters
    if "weight_decay" in parameters:
        arguments |= {"weight_decay": decay} | ({"mask": mask} if "mask" in parameters else {})
    elif not _is_zero(decay):
        before.append(optax.add_decayed_weights(decay, mask))
    return optax.chain(*before, _call(f"optimizer {spec.name}", function, arguments | {"learning_rate": rate}))


def _is_zero(value: float | jax.Array) -> bool:
    return isinstance(value, int | float) and value == 0
