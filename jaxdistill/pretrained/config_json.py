"""The `config.json` of a Hugging Face folder, with messages that name the file and the key."""

import json
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jaxdistill.errors import UserError, unknown

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Activations by their names there, and by those of `models/transformer.py`."""

ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
"""Activations by their names here, and by those that are written."""


def check_fields(family: str, fields: Mapping[str, Any], **allowed: Collection[Any]) -> None:
    """Raises `UserError` for a field that a family does not have.

    Args:
        family: its name, for the message.
        fields: of a model; its defaults may be left out.
        allowed: the values of fields that the family has.
    """
    for name, values in allowed.items():
        if name in fields and fields[name] not in values:
            options = " or ".join(map(repr, values))
            raise UserError(f"{name} must be {options} to be written as {family}, got {fields[name]!r}")


class ConfigJson(Mapping[str, Any]):
    """The keys of a `config.json`.

    Args:
        path: of the file, for messages.
        values: by key.
    """

    def __init__(self, path: pathlib.Path, values: Mapping[str, Any]) -> None:
        self.path, self.values_by_key = path, values

    @classmethod
    def read(cls, path: pathlib.Path) -> "ConfigJson":
        """Reads a file of keys.

        Raises:
            UserError: for a file that is no JSON object.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise UserError(
                f"{path} must be a JSON file, got {' '.join(str(error).split())}. Download it again"
            ) from error
        if not isinstance(values, dict):
            raise UserError(f"{path} must be a JSON object, got a {type(values).__name__}. Download it again")
        return cls(path, values)

    def __getitem__(self, key: str) -> Any:
        if key not in self.values_by_key:
            raise UserError(f"{self.path} must have the key {key!r}, got {sorted(self)}. Download it again")
        return self.values_by_key[key]

    def __iter__(self) -> Any:
        return iter(self.values_by_key)

    def __len__(self) -> int:
        return len(self.values_by_key)

    def __contains__(self, key: object) -> bool:
        return key in self.values_by_key

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the value of a key, or the default if it is missing or null."""
        value = self.values_by_key.get(key)
        return default if value is None else value

    def number(self, key: str, default: Any = None) -> Any:
        """Returns a number that is not negative."""
        value = self[key] if default is None else self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise UserError(f"{key} of {self.path} must be a number of at least 0, got {value!r}. Correct the file")
        return value

    def activation(self, key: str, default: str = "gelu") -> str:
        """Returns the name here of an activation."""
        return self.choose(key, ACTIVATIONS, default)

    def choose(self, key: str, options: Mapping[str, Any], default: str) -> Any:
        """Returns what a name stands for.

        Raises:
            UserError: for another name, with the nearest and the list.
        """
        value = self.get(key, default)
        if value not in options:
            raise unknown(f"{key} of {self.path}", value, options, "one that is supported")
        return options[value]

    def require(self, key: str, allowed: Sequence[Any]) -> None:
        """Raises `UserError` for a setting, `allowed[0]` if it is missing, that the model does not have."""
        value = self.get(key, allowed[0])
        if value not in allowed:
            options = " or ".join(map(repr, allowed))
            raise UserError(
                f"{key} of {self.path} must be {options}, got {value!r}. The model has no other; take other weights"
            )

    def require_architecture(self, *allowed: str) -> None:
        """Raises `UserError` for weights that another class wrote, whose head the model does not have."""
        if self.architecture and self.architecture not in allowed:
            raise unknown(f"architectures of {self.path}", self.architecture, allowed, "one that can be read")

    @property
    def architecture(self) -> str:
        """The class that wrote the weights, such as `BertForMaskedLM`; "" if it is not stored."""
        names = self.get("architectures", [])
        if not isinstance(names, list):
            raise UserError(f"architectures of {self.path} must be a list of names, got {names!r}. Correct the file")
        return str(names[0]) if names else ""

    @property
    def num_labels(self) -> int:
        """The number of classes of a classifier."""
        return len(self.get("id2label", {})) or int(self.get("num_labels", 2))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in their order; none if they are the numbers that the library fills in."""
        labels = {int(key): str(name) for key, name in self.get("id2label", {}).items()}
        names = tuple(labels[key] for key in sorted(labels))
        return () if all(name == f"LABEL_{key}" for key, name in enumerate(names)) else names
