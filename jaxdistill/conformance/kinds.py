"""Promises that every kind of stage keeps, checked on a small stage of random images or of the digits.

Nothing is trained: a stage is built and described from shapes. `python -m jaxdistill.conformance my_lab.stages:MyKind`
takes further keys of the stage as fields, such as `merge="{'networks': ('student', 'teacher')}"`.
"""

import dataclasses
import inspect
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from jaxdistill.build import resolve
from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.config import load
from jaxdistill.conformance.promise import NotApplicable, Promise, require
from jaxdistill.errors import UserError

NAME = "toy"
"""Name of the stage."""

KEYS: dict[str, Any] = {
    "steps": 2,
    "batch": 32,
    "data": {"name": "digits"},
    "networks": {name: {"source": "trained", "model": "mlp", "widths": (8,)} for name in ("student", "teacher")},
    "terms": {
        "task": {"method": "cross_entropy"},
        "task_of_teacher": {"method": "cross_entropy", "student": "teacher"},
    },
    "evaluate": {"metrics": ("accuracy",)},
}
"""Keys of the stage, as far as its kind has them."""

MISTAKES: tuple[dict[str, Any], ...] = (
    {"networks": {}},
    {"evaluate": {"split": "nowhere", "every": 1}},
    {"evaluate": {"networks": ("nobody",)}},
    {"evaluate": {"metrics": ("agreement",), "reference": "nobody"}},
    {"sharding": ("fsdp",)},
    {"data": {"name": "arithmetic", "length": 8}},
)
"""Keys that a kind may refuse, each by a `UserError`."""


@dataclasses.dataclass(frozen=True)
class ToyStage:
    """A stage of one kind.

    Attributes:
        kind: the class.
        keys: of the stage, in a config.
        stage: built from them.
    """

    kind: type[Kind]
    keys: Mapping[str, Any]
    stage: Stage


def make_subject(member: type[Kind], **fields: Any) -> ToyStage:
    """Builds a stage of a kind.

    Args:
        member: the kind.
        fields: keys of the stage, merged over `KEYS`.

    Raises:
        UserError: if the kind refuses them.
    """
    keys = load.inherit(NAME, KEYS | {"kind": f"{member.__module__}:{member.__qualname__}"}, fields)
    return ToyStage(member, keys, build_stage(keys))


def build_stage(keys: Mapping[str, Any]) -> Stage:
    """Builds a stage as a run does; it inherits its keys, so that those that its kind does not have are left out."""
    inherited = {key: value for key, value in keys.items() if key != "kind"}
    return resolve.stage(NAME, load.stages({**inherited, "stages": {NAME: {"kind": keys["kind"]}}})[NAME])


def is_documented(toy: ToyStage) -> None:
    """The class has a docstring, and so does its module."""
    require(inspect.getdoc(toy.kind) not in (None, inspect.getdoc(Kind)), "the class must have a docstring")
    require(bool(inspect.getmodule(toy.kind).__doc__), "its module must have a docstring")


def has_settings_with_meanings(toy: ToyStage) -> None:
    """Each key of its settings has a line of meaning."""
    empty = [field.name for field in dataclasses.fields(toy.stage.settings) if not field.metadata.get("meaning")]
    require(not empty, f"keys {empty} must have a meaning")


def has_boolean_facts(toy: ToyStage) -> None:
    """A fact that `Kind` declares as a boolean is one, and no further facts are declared."""
    for name, default in vars(Kind).items():
        if isinstance(default, bool):
            require(isinstance(getattr(toy.kind, name), bool), f"{name} must be a bool")


def can_be_run(toy: ToyStage) -> None:
    """`run` takes the arguments of `Kind.run`."""
    require(toy.kind.run is not Kind.run, "run must be implemented")
    expected, parameters = (list(inspect.signature(kind.run).parameters) for kind in (Kind, toy.kind))
    require(parameters == expected, f"run must take {expected}, got {parameters}")


def names_its_networks(toy: ToyStage) -> None:
    """The networks that it evaluates, compares, initialises and saves are those of the stage, or made like one."""
    kind, stage = toy.stage.kind, toy.stage
    named = [*kind.measured(stage), *kind.initialised(stage), *stage.evaluation.compared]
    named += [kind.template(stage, name) for name in kind.saved(stage)]
    named += [name for _, _, names in kind.inputs(stage) for name in names]
    unknown = sorted({*named} - {*stage.networks})
    require(not unknown, f"networks must be those of the stage {[*stage.networks]}, got {unknown}")


def names_its_splits(toy: ToyStage) -> None:
    """The splits that it reads exist."""
    kind, stage = toy.stage.kind, toy.stage
    roles = [role for role, _, _ in kind.inputs(stage)] + [kind.split(stage)[0]]
    unknown = sorted({*roles} - {*stage.data.dataset.splits})
    require(not unknown, f"splits must be those of the data {[*stage.data.dataset.splits]}, got {unknown}")
    require(kind.split(stage)[1] > 0, "split must have examples")


def has_a_cache_header(toy: ToyStage) -> None:
    """A kind that stores outputs gives the header of its cache from shapes alone."""
    if not toy.kind.stores_outputs:
        raise NotApplicable("it stores no outputs")
    header = toy.stage.kind.cache_header(toy.stage)
    require(header.records > 0, "the cache must have records")
    require({*header.splits} <= {*toy.stage.data.dataset.splits}, "splits of the cache must be those of the data")


def describes_itself_in_lines(toy: ToyStage) -> None:
    """`describe` and `describe_data` return lines; the first of `describe_data` goes on with a line."""
    kind = toy.stage.kind
    lines = [*kind.describe_data(toy.stage), *kind.describe(toy.stage)]
    require(bool(kind.describe_data(toy.stage)), "describe_data must return a line, which may be empty")
    require(all(isinstance(line, str) and "\n" not in line for line in lines), f"lines must be texts, got {lines}")


def refuses_by_user_errors(toy: ToyStage) -> None:
    """Keys that do not fit are refused by a `UserError`, if they are refused."""
    for mistake in MISTAKES:
        try:
            build_stage(load.inherit(NAME, toy.keys, mistake))
        except UserError as error:
            require(bool(str(error).strip()), f"the error for {mistake} must have a message")
        except Exception as error:
            raise AssertionError(f"{mistake} must be refused by a UserError, got {error!r}") from error


def is_not_done_before_it_ran(toy: ToyStage) -> None:
    """A stage without a folder is not done."""
    with tempfile.TemporaryDirectory() as folder:
        require(not toy.stage.kind.is_done(toy.stage, pathlib.Path(folder)), "an empty workdir must not be done")


PROMISES = (
    Promise("its class and module have docstrings", is_documented),
    Promise("its settings have meanings", has_settings_with_meanings),
    Promise("its facts are booleans", has_boolean_facts),
    Promise("run takes the stage, the workdir, log and profile", can_be_run),
    Promise("it names networks of the stage", names_its_networks),
    Promise("it names splits of the data", names_its_splits),
    Promise("the header of its cache follows from shapes", has_a_cache_header),
    Promise("it describes itself in lines", describes_itself_in_lines),
    Promise("it refuses settings by UserErrors alone", refuses_by_user_errors),
    Promise("it is not done before it ran", is_not_done_before_it_ran),
)
