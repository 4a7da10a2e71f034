"""Optimizers and schedules: Optax's, by name."""

import dataclasses
import difflib
import functools
import inspect
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdistill.config import registry
from jaxdistill.config.members import DECAY_ARGUMENTS, MASK_ARGUMENTS, GroupConfig, OptimizerConfig, ScheduleConfig
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
        return _named(spec.name, dict(spec.arguments), steps, path)
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


LENGTHS = ("decay_steps", "transition_steps")
"""Arguments of Optax's schedules that are the length of the stage if they are not set."""


def _named(name: str, arguments: dict[str, Any], steps: int, path: str) -> Schedule:
    function = registry.find("schedule", name)
    parameters = inspect.signature(function).parameters
    lengths = {key: arguments.get(key, steps) for key in LENGTHS if key in parameters}
    warmup, decay = arguments.get("warmup_steps", 0), lengths.get("decay_steps")
    if decay is not None and warmup >= decay:
        owner = "" if "decay_steps" in arguments else ", the length of the stage"
        raise UserError(
            f"{path} must be longer than its warm-up, got warmup_steps={warmup} and decay_steps={decay}{owner}. Shorten"
            " the warm-up, such as warmup_fraction=0.1, or train for more steps"
        )
    return _call(f"{path}: schedule {name!r}", function, lengths | arguments)


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


def optimizer(
    spec: OptimizerConfig,
    rate: Schedule,
    group_rates: Mapping[str, Schedule] | None = None,
    values: Mapping[str, jax.Array] | None = None,
) -> optax.GradientTransformation:
    """Makes the optimizer.

    If the Optax function has no weight decay of its own, as `sgd`, the decay is added to the gradient (L2, before
    momentum, as in PyTorch). Gradients are clipped by the norm of all parameters together, frozen ones excepted
    (`freezing`).

    Args:
        spec: the settings.
        rate: the learning rate by optimizer step.
        group_rates: those of the groups, by name (`make_group_rates`).
        values: traced numbers that replace those of `spec`, by dotted key.
    """
    values, group_rates = values or {}, group_rates or {}
    clip = values.get("clip", spec.clip)
    before = [] if _is_zero(clip) else [optax.clip_by_global_norm(clip)]
    decay = values.get("weight_decay", spec.weight_decay)
    rest = _update_rule(spec, rate, decay, values)
    if not spec.groups:
        return optax.chain(*before, *rest)
    parts: dict[Hashable, optax.GradientTransformation] = {"": optax.chain(*rest)}
    for name, group in spec.groups.items():
        group_decay = decay if group.weight_decay is None else group.weight_decay
        group_decay = values.get(f"groups.{name}.weight_decay", group_decay)
        parts[name] = (
            _keep() if group.frozen else optax.chain(*_update_rule(spec, group_rates[name], group_decay, values))
        )
    return optax.chain(*before, optax.partition(parts, functools.partial(_label_groups, spec)))


def make_group_rates(spec: OptimizerConfig, rate: Schedule, steps: int, path: str = "optimizer") -> dict[str, Schedule]:
    """Returns the learning rates of the groups that are not frozen, by name.

    Args:
        spec: the settings of the optimizer.
        rate: the stage's learning rate.
        steps: the length of the run.
        path: the key of the optimizer, for messages.
    """
    rates = {}
    for name, group in spec.groups.items():
        if not group.frozen:
            key = f"{path}.groups.{name}.learning_rate"
            base = rate if group.learning_rate is None else schedule(group.learning_rate, steps, key)
            rates[name] = _scaled(base, group.learning_rate_factor)
    return rates


def _scaled(rate: Schedule, factor: float) -> Schedule:
    return rate if factor == 1 else lambda step: factor * rate(step)


def _update_rule(
    spec: OptimizerConfig, rate: Schedule, decay: float | jax.Array, values: Mapping[str, jax.Array]
) -> list[optax.GradientTransformation]:
    """Returns the transformations that make updates of a part of the parameters from its gradients."""
    function = registry.find("optimizer", spec.name, "optimizer.name")
    title, parameters = f"optimizer {spec.name!r}", inspect.signature(function).parameters
    arguments = dict(spec.arguments) | {key: x for key, x in values.items() if key in spec.arguments}
    arguments["learning_rate"] = rate
    decay_key = next((key for key in DECAY_ARGUMENTS if key in parameters), "")
    mask_key = next((key for key in MASK_ARGUMENTS if key in parameters), "")
    mask = functools.partial(_matches, re.compile(spec.decay_on))
    if _is_zero(decay):
        return [_call(title, function, arguments | ({decay_key: 0.0} if decay_key == "weight_decay" else {}))]
    if not decay_key:
        return [optax.add_decayed_weights(decay, mask), _call(title, function, arguments)]
    decaying = arguments | {decay_key: decay}
    if mask_key or not spec.decay_on:
        return [_call(title, function, decaying | ({mask_key: mask} if mask_key else {}))]
    both: dict[Hashable, optax.GradientTransformation] = {
        True: _call(title, function, decaying),
        False: _call(title, function, arguments | {decay_key: 0.0}),
    }
    return [optax.partition(both, mask)]


def _matches(pattern: re.Pattern[str], params: Any) -> Any:
    """Returns a tree of whether the path of each parameter matches."""
    return jax.tree_util.tree_map_with_path(lambda path, _: bool(pattern.search(path_name(path))), params)


def _group_of(spec: OptimizerConfig, name: str) -> str:
    """Returns the group of the parameter at a path, "" for none."""
    return next((key for key, group in spec.groups.items() if group.matches(name)), "")


def _label_groups(spec: OptimizerConfig, params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: _group_of(spec, path_name(path)), params)


def freeze_rest(spec: OptimizerConfig, learning: Mapping[str, str]) -> OptimizerConfig:
    """Returns settings with a frozen group for each network of which only a part learns.

    Args:
        spec: the settings.
        learning: regular expressions of the paths that learn, by network.
    """
    rest = {
        f"{name}.train": GroupConfig(pattern=f"^{re.escape(name)}/", but=pattern, frozen=True)
        for name, pattern in learning.items()
    }
    return dataclasses.replace(spec, groups={**rest, **spec.groups}) if rest else spec


def count_learning(spec: OptimizerConfig, params: Any) -> int:
    """Returns the number of parameters that are not frozen; `params` may be shapes."""
    frozen = {name for name, group in spec.groups.items() if group.frozen}
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum(math.prod(x.shape) for path, x in leaves if _group_of(spec, path_name(path)) not in frozen)


def _keep() -> optax.GradientTransformation:
    """Returns the transformation that changes no bit: adding -0.0 also keeps -0.0, adding 0.0 does not."""
    return optax.stateless(lambda updates, _: jax.tree.map(lambda x: jnp.full_like(x, -0.0), updates))


def freezing(spec: OptimizerConfig) -> Callable[[Any], Any]:
    """Returns a function of the params that stops the gradient of frozen ones, so that none is computed."""
    if not any(group.frozen for group in spec.groups.values()):
        return lambda params: params

    def stop(path: Any, x: jax.Array) -> jax.Array:
        group = _group_of(spec, path_name(path))
        return jax.lax.stop_gradient(x) if group and spec.groups[group].frozen else x

    return functools.partial(jax.tree_util.tree_map_with_path, stop)


def check_patterns(spec: OptimizerConfig, params: Any, path: str = "optimizer") -> None:
    """Checks that each pattern matches a parameter.

    Args:
        spec: the settings.
        params: `{network or term: tree}`.
        path: the key of the optimizer, for messages.

    Raises:
        UserError: for a pattern without a match, with the nearest parameters, and for a network all of which is frozen.
    """
    names = [path_name(leaf) for leaf, _ in jax.tree_util.tree_leaves_with_path(params)]
    if not any(re.search(spec.decay_on, name) for name in names):
        raise unmatched(f"{path}.decay_on", spec.decay_on, names)
    groups = {name: _group_of(spec, name) for name in names}
    for key, group in spec.groups.items():
        if not any(re.search(group.pattern, name) for name in names):
            raise unmatched(f"{path}.groups.{key}.pattern", group.pattern, names)
        if not any(re.search(group.but, name) for name in names):
            raise unmatched(f"{path}.groups.{key}.but", group.but, names)
        matches = [name for name in names if group.matches(name)]
        if not matches:
            raise UserError(
                f"{path}.groups.{key}.but must leave a parameter to the pattern {group.pattern!r}, got {group.but!r}."
                " Narrow it, or remove the group"
            )
        if key not in groups.values():
            earlier = sorted({groups[name] for name in matches})
            raise UserError(
                f"{path}.groups.{key}.pattern must match a parameter of no earlier group, got {group.pattern!r}, whose"
                f" parameters are all of {earlier}. Place {key!r} before them, or narrow their patterns"
            )
    for owner in params:
        owned = [group for name, group in groups.items() if name.startswith(f"{owner}/")]
        if owned and all(group and spec.groups[group].frozen for group in owned):
            raise UserError(
                f"{path}.groups must leave a parameter of {owner!r} to learn, got {sorted(set(owned))}, which freeze"
                " all of them. Narrow the pattern, or set source='frozen' and weights for a network that does not learn"
            )


def unmatched(path: str, pattern: str, names: Sequence[str]) -> UserError:
    """Returns the error for a pattern without a match, with the nearest paths of parameters."""

    def similarity(name: str) -> float:
        return max(difflib.SequenceMatcher(None, pattern, part).ratio() for part in (name, *name.split("/")))

    nearest = sorted(names, key=similarity, reverse=True)[:5]
    return UserError(
        f"{path} must match the path of a parameter, got {pattern!r}. The nearest of {len(names)} are {nearest}"
    )


def _is_zero(value: float | jax.Array) -> bool:
    return isinstance(value, int | float) and value == 0
