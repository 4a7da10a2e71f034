"""Optimizers and schedules: Optax's, by name."""

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdistill.core import Schedule, path_name
from jaxdistill.errors import UserError, check_kind, unknown

OTHERS = ("lbfgs", "rprop", "sm3", "optimistic_adam")
"""Optax functions that look like optimizers and are of no use here: one evaluates the loss again in its line search,
the others take no schedule for a learning rate."""


@functools.cache
def optimizers() -> dict[str, Callable]:
    """Every optimizer of Optax: a public function that takes a `learning_rate` and needs gradients alone."""
    found = _members(lambda name, parameters: "learning_rate" in parameters)
    return {name: function for name, function in found.items() if name not in OTHERS and name[:9] != "scale_by_"}


@functools.cache
def schedules() -> dict[str, Callable]:
    """Every schedule of Optax that plain numbers make, without the suffix `_schedule`."""
    found = _members(lambda name, parameters: name.endswith("_schedule") or name == "exponential_decay")
    return {name.removesuffix("_schedule"): function for name, function in found.items() if name[:9] != "scale_by_"}


def _members(keep: Callable) -> dict[str, Callable]:
    functions = {n: f for n, f in vars(optax).items() if inspect.isfunction(f) and not n.startswith("_")}
    return {name: f for name, f in functions.items() if keep(name, inspect.signature(f).parameters)}


def schedule(spec: float | Mapping[str, Any], steps: int, what: str = "rate") -> Schedule:
    """Returns a function of the optimizer step.

    Args:
        spec: a number; or `{start, times, at}`, multiplied by `times` at each step of `at`; or `{values, at}`,
            one value more than there are steps in `at`; or `{to, over, start=0}`, a line from `start` to `to` over
            that many steps; or `{value}`; or `{name, ...}`, one of Optax's with its own arguments. With `until` any
            of the sections is 0 from that step on.
        steps: the length of the run; an Optax schedule that wants `decay_steps` or `transition_steps` and is
            not told gets this.
        what: its name in messages.

    Raises:
        UserError: for a name or an argument that is not there, a missing one, and values that are negative or
            not finite.
    """
    try:
        made = _schedule(spec, steps, what)
        values = [float(made(step)) for step in moments(spec, steps)]
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{what}={spec!r} makes no sense: {error}") from error
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise UserError(f"{what}={spec!r} makes no sense; it is finite and 0 or more, and here comes to {values}")
    return made


def moments(spec: float | Mapping[str, Any], steps: int) -> list[int]:
    """The steps at which a schedule is looked at: its ends and middle, and both sides of wherever it changes."""
    told = [spec.get(key, ()) for key in ("at", "until", "over")] if isinstance(spec, Mapping) else []
    changes = [int(step) for value in told for step in (value if isinstance(value, tuple | list) else [value])]
    sides = {step + side for step in changes for side in (-1, 0)}
    return sorted({0, steps // 2, max(steps - 1, 0)} | {step for step in sides if 0 <= step < steps})


def _whole(key: str, value: Any) -> int:
    if value != int(value) or value < 0:
        raise ValueError(
            f"{key}={value} is no step; it is a whole number, 0 or more, or with a unit as {key}_share=0.5"
        )
    return int(value)


def _schedule(spec: float | Mapping[str, Any], steps: int, what: str) -> Schedule:
    if not isinstance(spec, Mapping):
        return optax.constant_schedule(float(spec))
    spec = dict(spec)
    if "until" in spec:
        until, inner = _whole("until", spec.pop("until")), _schedule(spec, steps, what)
        return lambda step: jnp.where(step < until, inner(step), 0.0)
    if spec.keys() == {"value"}:
        return optax.constant_schedule(float(spec["value"]))
    if spec.keys() == {"values", "at"}:
        return _piecewise([float(value) for value in spec["values"]], [_whole("at", at) for at in spec["at"]])
    if "name" in spec:
        return _named(spec.pop("name"), spec, steps)
    if spec.keys() == {"start", "times", "at"}:
        boundaries = {_whole("at", at): float(spec["times"]) for at in spec["at"]}
        return optax.piecewise_constant_schedule(float(spec["start"]), boundaries)
    if {"to", "over"} <= spec.keys() <= {"to", "over", "start"}:
        if _whole("over", spec["over"]) < 1:  # Optax would stay at the start for ever
            return optax.constant_schedule(float(spec["to"]))
        return optax.linear_schedule(float(spec.get("start", 0.0)), float(spec["to"]), int(spec["over"]))
    raise UserError(
        f"{what}: a schedule cannot be read from {spec}; give a number, (start, times, at), (values, at),"
        f" (to, over[, start]), (value), each also with `until`, or a name of {sorted(schedules())} with its arguments"
    )


def _piecewise(values: list[float], at: list[int]) -> Schedule:
    if len(values) != len(at) + 1 or at != sorted(at):
        raise ValueError(f"{len(values)} values need {len(values) - 1} steps in order at which they change, got {at}")
    return lambda step: jnp.asarray(values)[jnp.searchsorted(jnp.asarray(at), step, side="right")]


def _named(name: str, spec: dict[str, Any], steps: int) -> Schedule:
    if name not in schedules():
        raise unknown("schedule", name, schedules())
    function = schedules()[name]
    for length in ("decay_steps", "transition_steps"):
        if length in inspect.signature(function).parameters:
            spec.setdefault(length, steps)
    return _call(f"schedule {name}", function, spec)


def _call(what: str, function: Callable, arguments: Mapping[str, Any]):
    parameters = inspect.signature(function).parameters
    for key in arguments:
        if key not in parameters:
            raise unknown(f"argument of {what}", key, parameters)
    missing = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in arguments]
    if missing:
        raise UserError(f"{what} needs {missing}; it takes {list(parameters)}")
    try:
        return function(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} refuses {dict(arguments)}: {error}") from error


def optimizer(spec: Mapping[str, Any], rate: Schedule, **traced: jax.Array) -> optax.GradientTransformation:
    """Makes the optimizer.

    Args:
        spec: `name` and Optax's own arguments for it, and ours for any of them: `clip`, the global norm that
            gradients are cut to (0: not); `weight_decay`; `decay_on`, a regex over parameter names that says
            which decay ("" for all). Where the Optax function has no `weight_decay` of its own, as `sgd`, the
            decay is added to the gradient (L2, before momentum, as in PyTorch).
        rate: the learning rate by optimizer step.
        traced: values that take the place of those of `spec`, which is what they are checked by.
    """
    spec = dict(spec)
    name = spec.pop("name", None)
    clip, decay, decay_on = spec.pop("clip", 0.0), spec.pop("weight_decay", 0.0), spec.pop("decay_on", "")
    if name not in optimizers():
        raise unknown("optimizer", name, optimizers())
    if "learning_rate" in spec:
        raise UserError("optimizer.learning_rate is set by the stage's rate; leave it out")
    for key, value, default in (("clip", clip, 0.0), ("weight_decay", decay, 0.0), ("decay_on", decay_on, "")):
        check_kind(f"optimizer.{key}", value, default)
    try:
        re.compile(decay_on)
    except re.error as error:
        raise UserError(f"optimizer.decay_on={decay_on!r} is not a regular expression: {error}") from error
    for key, value in (("clip", clip), ("weight_decay", decay)):
        if not value >= 0:
            raise UserError(f"optimizer.{key}={value} makes no sense; it is 0 (none) or more")
    function = optimizers()[name]
    clip, decay = traced.pop("clip", clip), traced.pop("weight_decay", decay)
    spec |= traced

    def mask(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: bool(re.search(decay_on, path_name(path))), params)

    before = [] if _is_zero(clip) else [optax.clip_by_global_norm(clip)]
    own = {"learning_rate", "weight_decay", "mask"} & set(inspect.signature(function).parameters)
    if "weight_decay" in own:
        spec |= {"weight_decay": decay} | ({"mask": mask} if "mask" in own else {})
    elif not _is_zero(decay):
        before.append(optax.add_decayed_weights(decay, mask))
    return optax.chain(*before, _call(f"optimizer {name}", function, spec | {"learning_rate": rate}))


def _is_zero(value: float | jax.Array) -> bool:
    return isinstance(value, int | float) and value == 0


def fields(name: str) -> dict[str, Any]:
    """The keys that an optimizer section may set, with their defaults, where these are plain."""
    if name not in optimizers():
        raise unknown("optimizer", name, optimizers())
    parameters = inspect.signature(optimizers()[name]).parameters
    own = {key: parameter.default for key, parameter in parameters.items() if key not in ("learning_rate", "mask")}
    plain = {key: value for key, value in own.items() if isinstance(value, (bool, int, float, str))}
    return plain | {"clip": 0.0, "weight_decay": 0.0, "decay_on": ""}
