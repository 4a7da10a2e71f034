"""Formats of an export by name: modules with the members of `Format`."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from jaxdistill.export import huggingface, onnx, safetensors, stablehlo
from jaxdistill.export.exported import Exported
from jaxdistill.export.reload import Report


class Format(Protocol):
    """A format of an export, one file each.

    Attributes:
        FILE: the file that holds the network, in the folder of an export.
        PROGRAM: reads an export without jaxdistill, `python PROGRAM FOLDER INPUTS.npz OUTPUTS.npz`.
    """

    FILE: str
    PROGRAM: str

    def check(self, exported: Exported) -> None:
        """Raises `UserError` for a network that the format does not have."""

    def write(self, folder: pathlib.Path, exported: Exported) -> None:
        """Writes the files of the format into an empty folder."""

    def verify(self, folder: pathlib.Path, exported: Exported, examples: Mapping[str, np.ndarray]) -> Report:
        """Reads the files again and compares them with the network on raw examples."""
        ...

    def open_function(self, folder: pathlib.Path, raw: Mapping[str, Any]) -> Callable[..., np.ndarray]:
        """Returns the function of an export, from arrays by name to its output."""
        ...


FORMATS = {"huggingface": huggingface, "onnx": onnx, "safetensors": safetensors, "stablehlo": stablehlo}
