"""Names that a config gives: stages, networks, terms and mixed datasets, parts of paths, references and flags."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError

SEPARATORS = "/\\.#@:=,"
"""Characters that separate names in paths, references, flags and keys of metrics."""

LONGEST = 100
"""Bytes of a name; file systems have 255, to which suffixes are added."""

RESERVED = ("checkpoints", "compiled", "tensorboard", "wandb")
"""Folders of a workdir or a stage, beside those of stages."""


def check(shared: Mapping[str, Any], stages: Mapping[str, Any]) -> None:
    """Raises `UserError` for a name that cannot be part of a path.

    Args:
        shared: the top level of a config, without `stages`.
        stages: its sections of stages, as written.
    """
    for name in stages:
        _check_name("a stage", "stages", name)
        if name in RESERVED:
            raise UserError(
                f"stages.{name} must be a stage with another name, got {name!r}, a folder of the workdir. Rename it"
            )
    for path, section in [("", shared), *((f"stages.{name}.", stage) for name, stage in stages.items())]:
        for key, kind, names in _named(section):
            for name in names:
                _check_name(kind, path + key, name)


def _named(section: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields the key, the kind and the members of each part of a stage whose members have names."""
    if not isinstance(section, Mapping):
        return
    data = section.get("data")
    mix = data.get("mix") if isinstance(data, Mapping) else None
    sections = (("networks", "a network"), section.get("networks")), (("terms", "a term"), section.get("terms"))
    for (key, kind), members in (*sections, (("data.mix", "a dataset of data.mix"), mix)):
        if isinstance(members, Mapping):
            yield key, kind, members


def _check_name(kind: str, path: str, name: object) -> None:
    holds = isinstance(name, str) and name.strip() == name != "" and name.isprintable()
    if not holds or set(str(name)) & set(SEPARATORS) or len(str(name).encode()) > LONGEST:
        raise UserError(
            f"{path} must have a name for {kind} of 1 to {LONGEST} printable characters without spaces at its ends and"
            f" without {' '.join(SEPARATORS)}, got {name!r}. Rename it"
        )
