"""A section with the keys of a model that is a part of another one, such as its encoder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdistill.config import registry
from jaxdistill.config.parse import check, is_flag, join, option, parse_members, without
from jaxdistill.errors import UserError


@dataclasses.dataclass(frozen=True)
class NestedModel:
    """A model within a model; `fields` are its own keys, without the classes and the dtype of the outer one."""

    model: str = option("", "model by name")
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)

    OPEN = "fields"

    @classmethod
    def parse(cls, raw: Any, path: str) -> "NestedModel":
        """Returns a model whose fields have the types and defaults of its class."""
        check(isinstance(raw, Mapping), path, "a section such as dict(model='resnet', depth=18)", raw)
        if "model" not in raw:
            raise UserError(f"{path}.model must be set. There are {registry.names('model')}")
        name = raw["model"]
        member = registry.find("model", name, join(path, "model"))
        rest, owner = without(raw, {"model": name}), f"model {str(name)!r}"
        values = parse_members(registry.hints(member), rest, path, owner, renamed=is_flag(raw, "model"))
        defaults = {key: value for key, value in registry.fields(member).items() if value is not None}
        return cls(model=str(name), fields=defaults | values)
