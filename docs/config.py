"""The page of config keys, docs/config.md, from the typed settings, the sources and the kinds of stages.

python docs/config.py            # writes the page
python docs/config.py --check    # exits with 1 if the page is not up to date
"""

import dataclasses
import inspect
import pathlib
import sys
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "config.md"
sys.path[:0] = [str(ROOT)]

from jaxdistill.config import registry, sweep  # noqa: E402
from jaxdistill.config.members import (  # noqa: E402
    GroupConfig,
    NetworkConfig,
    OptimizerConfig,
    ScheduleConfig,
    TermConfig,
    default_of,
)
from jaxdistill.config.parse import hints_of, is_duration, plain  # noqa: E402
from jaxdistill.config.schema import StageSettings  # noqa: E402
from jaxdistill.networks.model import PreprocessSettings  # noqa: E402
from jaxdistill.networks.options import NetworkRef  # noqa: E402
from jaxdistill.stages.sklearn import NAMED  # noqa: E402
from jaxdistill.train.partitioning import SETS  # noqa: E402

INTRO = """# Config keys

`python docs/config.py` writes this page from the settings in the code. The guides explain what belongs together:
[networks](guides/networks.md), [data](guides/data.md), [tables](guides/tables.md),
[sweeps and lanes](guides/sweeps.md), [running and evaluation](guides/running.md), [caches](guides/caching.md),
[compression](guides/compressing.md), [merging](guides/merging.md) and [many devices](guides/many_devices.md).

A config is a Python file whose `get_config(mode)` returns an `ml_collections.ConfigDict`. Its top level has the keys
that stages share; `stages.NAME` has those of one stage. A config without `stages` has one stage, `train`. A flag sets
any key: `--config.data.name=digits`, and for a stage `--config.stages.NAME.batch=64`. An unknown key is an error with
the nearest name, and `--plan` checks a whole config without training.

**Inheritance.** A stage inherits the top level. Sections such as `data` are merged key by key; any other key replaces
the inherited one. The `networks` and `terms` of a stage name its members: it has those alone, each merged over the top
level's entry of that name. `{}` takes that entry unchanged, `like="student"` takes the entry of another name, and an
entry with another model or method is not merged.

**Order.** A stage runs after the stages whose weights or caches it reads. It is skipped if it is done, and resumed if
it was interrupted.

**Weights.** `networks.NAME.weights` is one of

| reference | weights |
| --- | --- |
| `"stage:NAME"` | the network of the same name in a stage of this run, or the only one |
| `"stage:NAME#NETWORK"` | another network of that stage |
| `"stage:NAME#NETWORK@LANE"` | the network of one lane, such as `"stage:parts#teacher@2"` |
| `"runs/other/teacher"` | a stage of another run, by its folder |
| `"runs/other/teacher/checkpoints/1200"` | one checkpoint of that stage |

A network with weights reads images of the size and with the standardisation of its training, whatever the data of the
stage that reads it.

**Durations** are optimizer steps. With a suffix they have another unit: `every_epochs`, `every_examples`, or
`every_fraction` of the steps of the run. For `steps` the keys are `epochs` and `examples`.

**Names.** A registered name may also be `"package.module:Name"`, an object of your own; it is held to the same checks.

In the tables, † marks keys with which a run may resume at another value, since results do not depend on them.
"""

EXAMPLES: tuple[tuple[Any, str], ...] = (
    (0.1, "constant; the same as `dict(value=0.1)`"),
    ({"to": 1.0, "over": 500}, "a line from 0, then constant"),
    ({"start": 1.0, "to": 0.0, "over": 500}, "a line from `start`, then constant"),
    ({"start": 0.1, "times": 0.1, "at": (300, 400)}, "multiplied by `times` at each step of `at`"),
    ({"values": (0.0, 1.0, 0.5), "at": (100, 900)}, "one value after another"),
    (
        {"name": "cosine_decay", "init_value": 0.1, "decay_steps": 900},
        "a schedule of Optax by name, with its arguments",
    ),
    ({"start": 1.0, "to": 0.0, "over_epochs": 5, "until_fraction": 0.6}, "any form, and 0 from `until` on"),
)
"""Examples of schedules with their meanings."""

SCHEDULES = """A schedule counts optimizer steps, whatever `accumulate` is. `learning_rate`, the weight of a term and
the numbers among the fields of a method may be schedules.
"""

TERMS = """A term has further keys, the fields of its [method](methods.md). The gradient of a term reaches the student
and the networks that the student consists of, and never the teacher: a teacher that trains has terms of its own.
"""

VIEWS = """A view is a function of a network's params that is applied before its model; `view` is its name. Views are
applied in a stated order, whatever that of the config: structure, low rank, LoRA, sparse, codebook or binary, quantize.
See [compression](guides/compressing.md).
"""

ROOMS = {
    "networks.NAME.model": "model",
    "networks.NAME.head": "head",
    "networks.NAME.weighting": "weighting",
    "task": "task",
    "data.name": "dataset",
    "data.augment": "augmentation",
    "evaluate.metrics": "metric",
    "merge.rule": "merge_rule",
}
"""Registered names by the key that takes them; methods have pages, and names of Optax depend on its version."""


OTHER_NAMES = {"sklearn.name": sorted(NAMED), "sharding": SETS}
"""Names that belong to no room, by key."""

PLURALS = {int: "whole numbers", float: "numbers", str: "texts", int | str: "whole numbers or texts"}
PLURALS |= {NetworkRef: "names of networks"}


def describe_type(hint: Any) -> str:
    """Returns the noun for values of a type hint."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_duration(hint):
        return "steps, several" if "tuple" in str(hint) else "steps"
    if origin is Annotated:
        return f"name of a {arguments[1]}"
    if origin is tuple:
        return f"tuple of {PLURALS.get(arguments[0], 'values')}"
    if origin is dict:
        return "section" if arguments[1] is Any else f"section of {describe_type(arguments[1])}s by name"
    if arguments:
        return " or ".join(describe_type(kind) for kind in arguments if kind is not type(None))
    nouns = {int: "whole number", float: "number", str: "text", bool: "bool", Any: "any"}
    if hint is ScheduleConfig:
        return "number or [schedule](#schedules)"
    return nouns.get(hint, "section")


def describe_default(field: dataclasses.Field) -> str:
    """Returns the default of a field as a config has it."""
    value = default_of(field)
    if value is dataclasses.MISSING:
        return "must be set"
    if dataclasses.is_dataclass(value) and not isinstance(value, ScheduleConfig):
        return ""
    value = plain(value)
    return f"`{tuple(value) if isinstance(value, list) else value!r}`"


def describe_bound(metadata: Mapping[str, Any]) -> str:
    """Returns the bound of a field, in words."""
    parts = [f"at least {metadata['least']}"] if metadata.get("least") is not None else []
    parts += [f"below {metadata['below']}"] if metadata.get("below") is not None else []
    parts += [", ".join(f"`{choice}`" for choice in metadata["choices"])] if metadata.get("choices") else []
    return ", ".join(parts)


def table(fields: Mapping[str, dataclasses.Field], hints: Mapping[str, Any]) -> list[str]:
    """Returns a table of keys."""
    lines = ["| key | type | default | bound | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, field in fields.items():
        mark = " †" if field.metadata.get("free") else ""
        cells = (describe_type(hints[name]), describe_default(field), describe_bound(field.metadata))
        lines.append(f"| `{name}`{mark} | {' | '.join(cells)} | {field.metadata['meaning']} |")
    return [*lines, ""]


def section_table(kind: type) -> list[str]:
    """Returns the table of the keys of a section that do not depend on a member of a room."""
    return table({f.name: f for f in dataclasses.fields(kind) if f.metadata}, hints_of(kind))


OWN_CHAPTERS = (NetworkConfig, TermConfig, OptimizerConfig, ScheduleConfig, sweep.SweepConfig)
"""Sections with chapters of their own."""


def sections(kind: type, path: str = "") -> Iterator[tuple[str, type]]:
    """Yields the sections below a section, by path; one of `dict[str, SECTION]` has `NAME` in its path."""
    for name, hint in hints_of(kind).items():
        by_name = typing.get_origin(hint) is dict
        section = typing.get_args(hint)[1] if by_name else hint
        if dataclasses.is_dataclass(section) and section not in OWN_CHAPTERS:
            inner = f"{path}{name}{'.NAME' if by_name else ''}"
            yield inner, section
            yield from sections(section, f"{inner}.")


def section_chapters() -> list[str]:
    """Returns the chapters of the sections of stages; paths of one section share a chapter."""
    paths: dict[type, dict[str, None]] = {}
    for settings in kinds_settings().values():
        for path, kind in sections(settings):
            paths.setdefault(kind, {})[path] = None
    lines = []
    for kind, names in paths.items():
        lines += [f"## {', '.join(f'`{name}`' for name in names)}", "", *section_table(kind)]
    return lines


def sentence(member: Any) -> str:
    """Returns the first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(member) or "").split("\n\n")[0].split())


def kinds_settings() -> dict[str, type[StageSettings]]:
    """Returns the settings of every kind of stage."""
    return {name: registry.find("kind", name).settings for name in registry.names("kind")}


def kind_chapters() -> list[str]:
    """Returns the chapters of the kinds of stages, with the keys that only some kinds have."""
    lines = ["## Kinds of stages", "", "| `kind` | task of the stage |", "| --- | --- |"]
    lines += [f"| `{name}` | {sentence(registry.find('kind', name))} |" for name in registry.names("kind")]
    lines += ["", "A stage may set the keys of its kind; keys of other kinds that it inherits are ignored.", ""]
    shared = {field.name for field in dataclasses.fields(StageSettings)}
    for name, settings in kinds_settings().items():
        fields = {field.name: field for field in dataclasses.fields(settings) if field.name not in shared}
        lines += [f'### `kind="{name}"`', "", *table(fields, hints_of(settings))] if fields else []
    return lines


def network_chapters() -> list[str]:
    """Returns the chapters of networks: the keys of all, and those of each source."""
    lines = ["## `networks.NAME`", "", *section_table(NetworkConfig)]
    lines += ["A network has further keys: those of its source, and the fields of its `model` or `head`.", ""]
    for name in registry.names("network"):
        source = registry.find("network", name)
        kinds = [source, *([source.settings] if source.settings else [])]
        hints = {key: hint for kind in kinds for key, hint in hints_of(kind).items()}
        lines += [f'### `source="{name}"`', "", sentence(source), "", *table(source.option_fields(), hints)]
    return [*lines, "### `networks.NAME.preprocess`", "", *section_table(PreprocessSettings)]


def view_chapters() -> list[str]:
    """Returns the chapters of views: the keys of all, and those of each view."""
    lines = ["## `networks.NAME.compress.NAME`", "", VIEWS]
    for name in registry.names("view"):
        view = registry.find("view", name)
        fields = {field.name: field for field in dataclasses.fields(view) if field.metadata}
        lines += [f'### `view="{name}"`', "", sentence(view), "", *table(fields, hints_of(view))]
    return lines


def schedule_chapter() -> list[str]:
    """Returns the chapter of schedules, whose examples are parsed."""
    lines = ["## Schedules", "", SCHEDULES, "| example | meaning |", "| --- | --- |"]
    for raw, meaning in EXAMPLES:
        ScheduleConfig.parse(raw, "learning_rate")
        keys = ", ".join(f"{key}={value!r}" for key, value in raw.items()) if isinstance(raw, dict) else ""
        lines.append(f"| `{f'dict({keys})' if keys else raw}` | {meaning} |")
    return [*lines, "", *section_table(ScheduleConfig)]


def sweep_chapter() -> list[str]:
    """Returns the chapter of `sweep`."""
    whole, sections = (", ".join(f"`{key}`" for key in keys) for keys in (sweep.WHOLE, sweep.NUMBERS))
    text = f"Tuples of values, one for each lane, for {whole} and any number of {sections}."
    return ["## `sweep`", "", f"{text} See [sweeps](guides/sweeps.md).", "", *section_table(sweep.SweepConfig)]


def name_chapter() -> list[str]:
    """Returns the chapter of registered names."""
    lines = ["## Names", "", "| key | names |", "| --- | --- |"]
    for key, room in ROOMS.items():
        lines.append(f"| `{key}` | {', '.join(f'`{name}`' for name in registry.names(room))} |")
    lines += [f"| `{key}` | {', '.join(f'`{name}`' for name in names)} |" for key, names in OTHER_NAMES.items()]
    return [*lines, ""]


def page() -> str:
    """Returns the text of the page."""
    lines = [INTRO, "## A stage", "", *section_table(StageSettings), *kind_chapters(), *network_chapters()]
    lines += view_chapters()
    lines += ["## `terms.NAME`", "", TERMS, *section_table(TermConfig)]
    lines += [
        "## `optimizer`",
        "",
        "Names are those of Optax; an optimizer's arguments are further keys.",
        "",
    ]
    lines += [*section_table(OptimizerConfig), "### `optimizer.groups.NAME`", "", *section_table(GroupConfig)]
    lines += [*schedule_chapter(), *section_chapters()]
    return "\n".join([*lines, *sweep_chapter(), *name_chapter()]).rstrip("\n") + "\n"


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit("docs/config.md is not up to date; run python docs/config.py")
