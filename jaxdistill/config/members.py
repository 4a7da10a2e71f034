"""Sections with further keys that a member of a room defines: terms, networks, optimizers and schedules."""

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from jaxdistill.config import registry
from jaxdistill.config.durations import Steps, bare
from jaxdistill.config.formats import check_none_of_weights, complete
from jaxdistill.config.nested_model import NestedModel
from jaxdistill.config.parse import (
    check,
    check_bounds,
    entries,
    hints_of,
    is_flag,
    join,
    option,
    parse,
    parse_members,
    parse_section,
    plain,
    raise_all,
    without,
)
from jaxdistill.errors import UserError

SCHEDULE_FORMS = ({"value"}, {"values", "at"}, {"start", "times", "at"}, {"to", "over"}, {"start", "to", "over"})


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """A number by optimizer step, in one of the forms of `SCHEDULE_FORMS`, or one of Optax's by `name`."""

    value: float | None = option(None, "a constant")
    start: float | None = option(None, "the first value")
    to: float | None = option(None, "the last value of a line")
    over: Steps | None = option(None, "length of the line")
    times: float | None = option(None, "factor at each step of `at`")
    values: tuple[float, ...] = option((), "one value more than there are steps in `at`")
    at: tuple[Steps, ...] | None = option(None, "steps at which it changes")
    until: Steps | None = option(None, "step from which on it is 0")
    name: str = option("", "a schedule of Optax, which takes its own arguments")
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    OPEN = "arguments"

    @classmethod
    def parse(cls, raw: Any, path: str) -> "ScheduleConfig":
        """Returns a schedule from a number or a section."""
        if not isinstance(raw, Mapping):
            if str(raw) in registry.names("schedule"):
                raise UserError(f"{path} must be a number or a section, got {str(raw)!r}. Set {path}.name to it")
            return cls(value=parse(float, raw, path))
        if "name" not in raw:
            forms = ", ".join(f"({', '.join(sorted(form))})" for form in SCHEDULE_FORMS)
            given = {bare(key) for key in raw} - {"until"}
            check(given in SCHEDULE_FORMS, path, f"a number, a section of {forms}, or a name of Optax", dict(raw))
            return parse_section(cls, raw, path)
        function = registry.find("schedule", raw["name"], join(path, "name"))
        parameters = dict.fromkeys(inspect.signature(function).parameters, Any)
        section = {key: value for key, value in raw.items() if bare(key) in ("name", "until")}
        arguments = parse_members(
            parameters, without(raw, section), path, f"schedule {raw['name']!r}", renamed=is_flag(raw, "name")
        )
        return dataclasses.replace(parse_section(cls, section, path), arguments=arguments)

    def plain(self) -> Any:
        """Returns the number or the section that `parse` reads."""
        given = {key: value for key, value in entries(self).items() if value not in (None, (), "")}
        return given["value"] if [*given] == ["value"] else plain(given)


@dataclasses.dataclass(frozen=True)
class TermConfig:
    """A summand of the loss; `fields` are those of its method, of which numbers may be schedules."""

    method: str = option("", "method by name")
    student: str = option("student", "network that learns")
    teacher: str = option("teacher", "network that it learns from, if the method needs one")
    weight: ScheduleConfig = option(ScheduleConfig(1.0), "factor of the term")
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)

    OPEN = "fields"

    @classmethod
    def parse(cls, raw: Any, path: str) -> "TermConfig":
        """Returns a term whose fields have the method's types and defaults."""
        check(isinstance(raw, Mapping), path, "a section", raw)
        if "method" not in raw:
            raise UserError(f"{path}.method must be set. There are {registry.names('method')}")
        member = registry.find("method", raw["method"], f"{path}.method")
        section = {key: raw[key] for key in ("method", "student", "teacher", "weight") if key in raw}
        section = {"teacher": "teacher" if member.needs_teacher else ""} | section
        defaults = registry.fields(member)
        hints = registry.hints(member)
        hints = {key: _Number if isinstance(defaults[key], float) else hint for key, hint in hints.items()}
        flagged = is_flag(raw, "method")
        given = parse_members(hints, without(raw, section), path, f"method {str(raw['method'])!r}", renamed=flagged)
        fields = {key: value for key, value in defaults.items() if value is not None} | given
        return dataclasses.replace(parse_section(cls, section, path), fields=fields)


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """A view of a network's params; `fields` are its own keys."""

    view: str = option("", "view by name")
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)

    OPEN = "fields"

    @classmethod
    def parse(cls, raw: Any, path: str) -> "ViewConfig":
        """Returns a view whose fields have the types and defaults of its class."""
        check(isinstance(raw, Mapping), path, "a section", raw)
        if "view" not in raw:
            raise UserError(f"{path}.view must be set. There are {registry.names('view')}")
        member = registry.find("view", raw["view"], f"{path}.view")
        section = without(raw, {"view": None})
        parsed = parse_section(member, section, path, owner=f"view {str(raw['view'])!r}")
        fields = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(member) if f.metadata}
        return cls(view=str(raw["view"]), fields=fields)


class _Number:
    """Type of a number that may be a schedule."""

    @staticmethod
    def parse(raw: Any, path: str) -> float | ScheduleConfig:
        return ScheduleConfig.parse(raw, path) if isinstance(raw, Mapping) else parse(float, raw, path)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """A network of a stage; `options` are the keys of its source and the fields of its model, if it has one."""

    source: str = option("trained", "source of outputs by name")
    weights: str | None = option("", "weights to start from: 'stage:NAME', a folder of a stage, or 'hf:FOLDER'")
    sharding: tuple[Any, ...] = option((), "sharding rules of this network", free=True)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    OPEN = "options"

    @classmethod
    def parse(cls, raw: Any, path: str) -> "NetworkConfig":
        """Returns a network whose options have the types and defaults of its source and its model."""
        check(isinstance(raw, Mapping), path, "a section", raw)
        section = {key: raw[key] for key in ("source", "weights", "sharding") if key in raw}
        config, rest = parse_section(cls, section, path), without(raw, section)
        source = registry.find("network", config.source, f"{path}.source")
        if "model" in source.option_fields():
            rest = without(complete(raw, path), section)
        options = parse_options(source, rest, path, f"source {config.source!r}", renamed=is_flag(raw, "source"))
        if not config.weights:
            check_none_of_weights(options, path)
        return dataclasses.replace(config, options=options)

    @property
    def free(self) -> set[str]:
        """The options that a run may resume with other values of."""
        fields = registry.find("network", self.source).option_fields()
        return {key for key, field in fields.items() if field.metadata.get("free")}


def parse_options(source: Any, raw: Mapping[str, Any], path: str, owner: str, renamed: bool = False) -> dict[str, Any]:
    """Returns the options of a source, each of its keys with a value.

    Args:
        source: its class.
        raw: values by key.
        path: the key of the network, for messages.
        owner: the source, for messages.
        renamed: whether a flag has named the source.

    Raises:
        UserError: for an unknown or missing key, and a value of another type or out of bounds.
    """
    fields = source.option_fields()
    hints = {key: hint for kind in (source, source.settings) if kind for key, hint in hints_of(kind).items()}
    hints = {key: hints[key] for key in fields}
    defaults = {key: default_of(field) for key, field in fields.items()}
    defaults = {key: value for key, value in defaults.items() if value is not dataclasses.MISSING}
    for room in ("model", "head"):  # a key of that name adds the fields of a member of that room
        names_member = room in fields and not fields[room].metadata.get("choices")
        name = raw.get(room, defaults.get(room)) if names_member else None
        if name is not None:
            member = registry.find(room, name, f"{path}.{room}")
            owner, renamed = f"{room} {str(name)!r}", renamed or is_flag(raw, room)
            fields_of_member = registry.hints(member) | dict.fromkeys(getattr(member, "nested", ()), NestedModel)
            hints = ({"dtype": str} if hasattr(member, "dtype") else {}) | fields_of_member | hints
            defaults |= {key: value for key, value in registry.fields(member).items() if value is not None}
    options = defaults | parse_members(hints, raw, path, owner, renamed=renamed)
    for key, field in fields.items():
        if key in options:
            check_bounds(f"{path}.{key}", options[key], field.metadata)
        elif field.default is dataclasses.MISSING:
            raise UserError(f"{path}.{key} must be set: {field.metadata['meaning']}. The keys are {[*fields]}")
    return options


def default_of(field: dataclasses.Field) -> Any:
    """Returns the default of a field; `dataclasses.MISSING` if it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@dataclasses.dataclass(frozen=True)
class GroupConfig:
    """Parameters that are frozen, or have a learning rate and a weight decay of their own."""

    pattern: str = option("", "regular expression of the paths of its parameters, such as 'student/.*/bias'")
    but: str = option("", "regular expression of the paths that it leaves out; none if empty")
    frozen: bool = option(False, "whether they keep their values")
    learning_rate: ScheduleConfig | None = option(None, "their learning rate; the stage's if not set")
    learning_rate_factor: float = option(1.0, "factor of their learning rate", least=0)
    weight_decay: float | None = option(None, "their weight decay; the optimizer's if not set", least=0)

    @classmethod
    def parse(cls, raw: Any, path: str) -> "GroupConfig":
        """Returns a group from a section."""
        group = parse_section(cls, raw, path)
        check(bool(group.pattern), f"{path}.pattern", "a regular expression of paths of parameters", group.pattern)
        compile_pattern(f"{path}.pattern", group.pattern)
        compile_pattern(f"{path}.but", group.but)
        rest = [key for key in ("learning_rate", "learning_rate_factor", "weight_decay") if raw.get(key) is not None]
        if not group.frozen and not rest:
            raise UserError(
                f"{path} must set more than its pattern, got {group.pattern!r} alone. Set frozen=True, or one of"
                " learning_rate, learning_rate_factor and weight_decay"
            )
        if group.frozen and rest and getattr(group, rest[0]) != default_of(cls.__dataclass_fields__[rest[0]]):
            raise UserError(f"{path}.frozen must be False beside {rest[0]}, got True. Remove one of the two")
        return group

    def matches(self, name: str) -> bool:
        """Whether the parameter at a path is one of its own."""
        return bool(re.search(self.pattern, name)) and not (self.but and re.search(self.but, name))


def compile_pattern(path: str, pattern: str) -> re.Pattern[str]:
    """Returns a regular expression of a config.

    Raises:
        UserError: for a text that is none.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{path} must be a regular expression, got {pattern!r}. {error}") from error


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer of Optax by name, with its own arguments."""

    name: str = option("sgd", "optimizer of Optax by name")
    clip: float = option(0.0, "global norm that gradients are cut to; 0 for none", least=0)
    weight_decay: float = option(
        0.0, "weight decay; without it Optax's default: 1e-4 of adamw, 1e-3 of lion, 0 of most", least=0
    )
    decay_on: str = option("", "regular expression of the paths of parameters that decay; all if empty")
    groups: dict[str, GroupConfig] = option(dict, "groups of parameters by name; the first that matches counts")
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    OPEN = "arguments"

    @classmethod
    def parse(cls, raw: Any, path: str) -> "OptimizerConfig":
        """Returns an optimizer whose arguments have the types of the function's defaults."""
        check(isinstance(raw, Mapping), path, "a section such as dict(name='sgd', momentum=0.9)", raw)
        raw = raw if "name" in raw else plain(default_optimizer()) | raw
        function = registry.find("optimizer", raw["name"], f"{path}.name")
        if "learning_rate" in raw:
            raise UserError(f"{path}.learning_rate must be absent, got {raw['learning_rate']!r}. Set learning_rate")
        section = {key: raw[key] for key in ("name", "clip", "weight_decay", "decay_on", "groups") if key in raw}
        hints, defaults = arguments_of(function)
        owner = f"optimizer {str(raw['name'])!r}"
        given = parse_members(hints, without(raw, section), path, owner, renamed=is_flag(raw, "name"))
        raise_all(message for key, value in given.items() if (message := argument_error(function, key, value, path)))
        config = parse_section(cls, {"weight_decay": default_decay(function)} | section, path)
        compile_pattern(f"{path}.decay_on", config.decay_on)
        decays = config.weight_decay or any(group.weight_decay for group in config.groups.values())
        # A weight decay that is set to 0 is one that was turned off, or that a sweep replaces.
        if config.decay_on and not decays and not ("weight_decay" in raw or is_flag(raw, "name")):
            raise UserError(
                f"{path}.decay_on must be absent without a weight decay, got {config.decay_on!r}, and {owner} has none."
                f" Set {path}.weight_decay"
            )
        return dataclasses.replace(config, arguments=defaults | given)


BOUNDS = {
    r"b\d|beta|rho|decay|decay_rate|momentum": ("in [0, 1)", lambda x: 0 <= x < 1),
    r"eps|clipping_threshold|trust_coefficient|min_dim_size_to_factor": (
        "greater than 0 and finite",
        lambda x: 0 < x < math.inf,
    ),
    r".*": ("at least 0 and finite", lambda x: 0 <= x < math.inf),
}
"""Bounds of the numbers that optimizers of Optax take, by their names; the first whose pattern matches counts."""


def argument_error(function: Any, key: str, value: Any, path: str) -> str:
    """Returns the message for an argument of an optimizer out of bounds, "" if it is within."""
    default = inspect.signature(function).parameters[key].default

    def applies(pattern: str, holds: Callable[[float], bool]) -> bool:
        # An argument whose default is out of bounds has another meaning, such as `beta` of the optimistic ones.
        return bool(re.fullmatch(pattern, key)) and (not _is_number(default) or holds(default))

    constraint, holds = next(bound for pattern, bound in BOUNDS.items() if applies(pattern, bound[1]))
    named = constraint if constraint != BOUNDS[".*"][0] else ""
    if _is_number(value) and not holds(value):
        return f"{path}.{key} must be {constraint}, got {value!r}"
    if named and value is not None and not _is_number(value):
        return f"{path}.{key} must be a number {named}, got {value!r}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


DECAY_ARGUMENTS = ("weight_decay", "weight_decay_rate")
MASK_ARGUMENTS = ("mask", "weight_decay_mask")
"""Arguments of Optax's optimizers that set a weight decay, and the parameters that decay."""


def default_decay(function: Any) -> float:
    """Returns the weight decay of an optimizer of which none is set."""
    parameters = inspect.signature(function).parameters
    return next((parameters[key].default or 0.0 for key in DECAY_ARGUMENTS if key in parameters), 0.0)


def arguments_of(function: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the types and the plain defaults of an optimizer's arguments that a config may set."""
    parameters = inspect.signature(function).parameters
    others = ("learning_rate", *DECAY_ARGUMENTS, *MASK_ARGUMENTS)
    section = {key: p.default for key, p in parameters.items() if key not in others}
    defaults = {key: value for key, value in section.items() if isinstance(value, bool | int | float | str)}
    return {key: type(defaults[key]) if key in defaults else Any for key in section}, defaults


def default_optimizer() -> OptimizerConfig:
    """Returns SGD with Nesterov momentum."""
    return OptimizerConfig(arguments={"momentum": 0.9, "nesterov": True})
