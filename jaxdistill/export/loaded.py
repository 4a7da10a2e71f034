"""Finished networks that a program calls on raw inputs."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.config import registry
from jaxdistill.errors import UserError
from jaxdistill.export.function import CONFIG
from jaxdistill.export.signature import PROBABILITIES, Signature
from jaxdistill.export.write import REPORT, read_report
from jaxdistill.modules import nms, regression_method
from jaxdistill.runtime import files

CHUNK = 256
"""Examples of one call of a program; the last call of a large input is filled up, so that nothing is compiled anew."""


SMALLEST = np.finfo(np.float32).eps
"""Least probability of a no, of which float32 holds only the difference to 1."""


class LoadedNetwork:
    """A finished network with its preprocessing.

    Args:
        name: of the network in its run.
        signature: its raw inputs.
        function: from arrays by name to logits, or to the output of a file.
        gives_output: whether the function returns the output of a file, which are probabilities.
    """

    def __init__(
        self,
        name: str,
        signature: Signature,
        function: Callable[[Mapping[str, np.ndarray]], np.ndarray],
        gives_output: bool = False,
    ) -> None:
        self.name, self.signature = name, signature
        self._function, self._gives_output = function, gives_output

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of the logits; none if they are numbers."""
        return self.signature.class_names

    def __call__(self, x: Any) -> np.ndarray:
        """Returns logits.

        Args:
            x: raw inputs: images `[n, height, width, channels]`, uint8 or floats in [0, 1]; a list of texts, or of
                pairs of texts; tokens `[n, length]`; rows of a table `[n, columns]`, or its columns by name; or
                every array of `signature.inputs` by name.

        Returns:
            float32 `[n, classes]`, of a language model `[n, length, classes]`, of a regression the numbers of each
            standardised target's distribution, of a detector `[n, locations, 4 + classes]`, boxes and scores before
            suppression. Of a file that holds probabilities, their logarithms.

        Raises:
            UserError: for inputs of another kind or shape.
        """
        values = self._outputs(self.signature.arrays(x))
        if not self._gives_output or self.signature.predictions not in PROBABILITIES:
            return values
        logs = np.log(np.maximum(values, np.finfo(np.float32).tiny))
        return logs if self.signature.predictions == "classes" else logs - np.log(np.maximum(1 - values, SMALLEST))

    def probabilities(self, x: Any) -> np.ndarray:
        """Returns the probabilities of the classes, or of each label, of the shape of the logits.

        Raises:
            UserError: for a network that predicts neither, and for inputs of another kind or shape.
        """
        if self.signature.predictions not in PROBABILITIES:
            raise UserError(
                f"probabilities must be of a network that predicts classes or labels, got {self.name!r}, which predicts"
                f" {self.signature.predictions!r}. Call the network itself"
            )
        values = self._outputs(self.signature.arrays(x))
        if self._gives_output:
            return values
        return np.asarray(PROBABILITIES[self.signature.predictions](values))

    def numbers(self, x: Any) -> np.ndarray:
        """Returns the mean of each predicted number in its own units, float32 `[n, targets]` (`signature.targets`).

        Raises:
            UserError: for a network that predicts no numbers, and for inputs of another kind or shape.
        """
        form, targets = self.signature.predictions, self.signature.targets
        if not targets:
            raise UserError(
                f"numbers must be of a network that predicts targets, got {self.name!r}, which predicts {form!r}. Call"
                " the network itself"
            )
        means = regression_method.predicted_means(
            jnp.asarray(self._outputs(self.signature.arrays(x))), len(targets), form
        )
        mean, scale = (np.array([getattr(target, key) for target in targets]) for key in ("mean", "scale"))
        return (mean + scale * np.asarray(means)).astype(np.float32)

    def detections(self, x: Any, settings: nms.Suppression = nms.PUBLISHED) -> nms.Detections:
        """Returns the detections of images: boxes in fractions of their sides, scores and classes, `[n, most]` each.

        Args:
            x: raw inputs.
            settings: of non-maximum suppression.

        Raises:
            UserError: for a network that predicts no boxes, and for inputs of another kind or shape.
        """
        if self.signature.predictions != "boxes":
            raise UserError(
                f"detections must be of a network that predicts boxes, got {self.name!r}, which predicts"
                f" {self.signature.predictions!r}. Call the network itself"
            )
        values = jnp.asarray(self._outputs(self.signature.arrays(x)))
        return jax.device_get(nms.select(values[..., :4], values[..., 4:], settings))

    def _outputs(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        count = len(arrays[self.signature.main])
        if not count:  # a program may divide by the size of a batch
            inputs = self.signature.inputs.items()
            return self._function({name: np.zeros((1, *x.shape), x.dtype) for name, x in inputs})[:0]
        if count <= CHUNK:
            return self._function(arrays)
        parts = []
        for start in range(0, count, CHUNK):
            rows = np.minimum(np.arange(start, start + CHUNK), count - 1)
            parts.append(self._function({name: array[rows] for name, array in arrays.items()}))
        return np.concatenate(parts)[:count]


def open_export(path: pathlib.Path) -> LoadedNetwork:
    """Opens an export.

    Args:
        path: its folder, or the file in it that holds the network.

    Raises:
        UserError: for missing or altered files, and a format that only other libraries load.
    """
    folder = path if path.is_dir() else path.parent
    described = read_report(folder)
    form = registry.find("export_format", described["format"], f"format of {folder / REPORT}")
    raw = files.read_json(folder / CONFIG, dict)
    function = form.open_function(folder, raw)
    is_program = described["format"] != "safetensors"
    return LoadedNetwork(described["network"], Signature.parse(raw, folder), function, gives_output=is_program)
