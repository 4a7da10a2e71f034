"""Raw inputs of a network, and the way from images, texts and rows of tables to its arrays."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.tables import featurizer as featurizers
from jaxdistill.data.tables.featurizer import Featurizer
from jaxdistill.data.tables.table import Table
from jaxdistill.data.tokenizers import open_tokenizer
from jaxdistill.errors import UserError, unknown

BYTES = "bytes"
"""The tokenizer of texts whose tokens are their bytes."""


@dataclasses.dataclass(frozen=True)
class Input:
    """An array that a network takes.

    Attributes:
        shape: of one example.
        dtype: its name, such as "uint8".
    """

    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Signature:
    """The inputs of a network and the form of its outputs.

    Attributes:
        inputs: by name, in the order of the arguments; the main one first.
        predictions: "classes", "boxes", or the distribution whose numbers a prediction is.
        class_names: in the order of the logits; none if they are numbers.
        tokenizer: folder or file of the tokenizer of texts, `BYTES`, or "" for none.
        featurizer: the fitted transforms of a table; `None` for images and texts.
    """

    inputs: Mapping[str, Input]
    predictions: str = "classes"
    class_names: tuple[str, ...] = ()
    tokenizer: str = ""
    featurizer: Featurizer | None = None

    @property
    def main(self) -> str:
        """The name of the main input."""
        return next(iter(self.inputs))

    @property
    def output(self) -> str:
        """The name of the output of a file: "probabilities" of classes, or "values"."""
        return "probabilities" if self.predictions == "classes" else "values"

    def to_json(self) -> dict[str, Any]:
        """Returns the signature without the transforms, which are a file."""
        inputs = {name: {"shape": list(x.shape), "dtype": x.dtype} for name, x in self.inputs.items()}
        return {
            "inputs": inputs,
            "output": self.output,
            "predictions": self.predictions,
            "class_names": list(self.class_names),
            "tokenizer": self.tokenizer,
            "featurizer": featurizers.FILE if self.featurizer else "",
        }

    @classmethod
    def parse(cls, raw: Mapping[str, Any], folder: pathlib.Path) -> "Signature":
        """Returns the signature from the JSON of an export, whose other files are in a folder."""
        inputs = {name: Input(tuple(x["shape"]), x["dtype"]) for name, x in raw["inputs"].items()}
        tokenizer = raw["tokenizer"]
        featurizer = featurizers.load(folder / raw["featurizer"]) if raw["featurizer"] else None
        return cls(
            inputs=inputs,
            predictions=raw["predictions"],
            class_names=tuple(raw["class_names"]),
            tokenizer=str(folder / tokenizer) if tokenizer not in ("", BYTES) else tokenizer,
            featurizer=featurizer,
        )

    def arrays(self, x: Any) -> dict[str, np.ndarray]:
        """Returns the arrays of raw inputs, in the order of the arguments.

        Args:
            x: images `[n, height, width, channels]`, uint8 or floats in [0, 1]; a sequence of texts, or of pairs of
                texts; tokens `[n, length]`; rows of a table `[n, columns]`, or its columns by name; or all arrays
                of the network by name.

        Raises:
            UserError: for inputs of another kind or shape.
        """
        if isinstance(x, Mapping) and self.main in x:
            return self._check({name: np.asarray(array) for name, array in x.items()})
        if self.featurizer is not None:
            return self._check({self.main: featurizers.apply(self.featurizer, _table(self.featurizer, x))})
        if isinstance(x, str):
            raise UserError(f"the inputs must be several texts, got one: {x[:40]!r}. Write [text]")
        if isinstance(x, Sequence) and len(x) and isinstance(x[0], str | tuple | list):
            return self._check(self._tokenize(x))
        return self._check(self._with_mask(np.asarray(x)))

    def _tokenize(self, texts: Sequence[Any]) -> dict[str, np.ndarray]:
        """Returns the tokens of texts, or of pairs of texts, padded to the length that the network takes."""
        if not self.tokenizer:
            raise UserError(f"the inputs must be arrays of {self._shown()}, got texts. The network has no tokenizer")
        length = self.inputs[self.main].shape[0]
        if self.tokenizer == BYTES:
            rows = [np.frombuffer(text.encode()[:length], np.uint8) for text in texts]
            return self._pad({"tokens": rows}, length)
        firsts, seconds = ([*part] for part in zip(*texts, strict=True)) if _are_pairs(texts) else (texts, None)
        tokens = open_tokenizer(self.tokenizer).encode(firsts, seconds, length)
        ends = zip(tokens.starts[:-1], tokens.starts[1:], strict=True)
        places = [slice(start, stop) for start, stop in ends]
        fields = {"tokens": tokens.token, "segment": tokens.segment}
        return self._pad({name: [array[place] for place in places] for name, array in fields.items()}, length)

    def _pad(self, rows: Mapping[str, Sequence[np.ndarray]], length: int) -> dict[str, np.ndarray]:
        counts = np.array([len(row) for row in next(iter(rows.values()))])
        padded = {
            name: np.stack([np.pad(row.astype(np.int32), (0, length - len(row))) for row in values])
            for name, values in rows.items()
        }
        padded["token_mask"] = (np.arange(length) < counts[:, None]).astype(np.int32)
        return {name: padded[name] for name in self.inputs if name in padded}

    def _with_mask(self, x: np.ndarray) -> dict[str, np.ndarray]:
        length = self.inputs[self.main].shape[0]
        if "token_mask" not in self.inputs or x.ndim != 2 or x.shape[1] > length:
            return {self.main: x}
        return self._pad({self.main: x}, length)

    def _check(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns arrays in the order and the dtypes of the inputs, or raises `UserError` for others."""
        for name in arrays:
            if name not in self.inputs:
                raise unknown("the inputs", name, self.inputs, "an input of the network")
        first = arrays[self.main]
        defaults = {"segment": np.zeros(first.shape, np.int32), "token_mask": np.ones(first.shape, np.int32)}
        arrays = {name: arrays[name] if name in arrays else defaults[name] for name in self.inputs}
        for name, array in arrays.items():
            expected = self.inputs[name]
            if array.ndim != 1 + len(expected.shape) or array.shape[1:] != expected.shape or len(array) != len(first):
                raise UserError(
                    f"the inputs must be {self._shown()}, got {name} {list(array.shape)}. Reshape it, or pass other"
                    " examples"
                )
        return {name: _cast(name, array, self.inputs[name].dtype) for name, array in arrays.items()}

    def _shown(self) -> str:
        parts = [f"{name} {['n', *x.shape]} ({x.dtype})" for name, x in self.inputs.items()]
        return ", ".join(parts).replace("'", "")


def _are_pairs(texts: Sequence[Any]) -> bool:
    return not isinstance(texts[0], str)


def _cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    """Returns an array in the dtype of an input; images may be uint8 from 0 to 255 or floats from 0 to 1."""
    is_float, wanted = np.issubdtype(array.dtype, np.floating), np.dtype(dtype)
    if name == "image" and is_float and wanted == np.uint8:
        if array.size and not 0 <= array.min() <= array.max() <= 1:
            raise UserError("images of floats must be in [0, 1], got others. Divide them by 255, or pass uint8")
        return np.round(array * 255).astype(np.uint8)
    if name == "image" and array.dtype == np.uint8 and wanted != np.uint8:
        return (array / np.float32(255)).astype(wanted)
    if np.issubdtype(wanted, np.integer) and (is_float or not np.issubdtype(array.dtype, np.integer)):
        raise UserError(f"{name} must be integers ({dtype}), got {array.dtype}. Convert it")
    if wanted == np.uint8 and array.size and not 0 <= array.min() <= array.max() <= 255:
        raise UserError(f"{name} must be integers from 0 to 255, got others. Convert it")
    return array.astype(wanted)


def _table(featurizer: Featurizer, x: Any) -> Table:
    """Returns rows, or columns by name, as the raw table that transforms were fitted on."""
    if not isinstance(x, Mapping):
        numbers = np.asarray(x, np.float64)
        if numbers.ndim != 2 or numbers.shape[1] != len(featurizer.names) or featurizer.strings:
            columns = [*featurizer.names, *featurizer.strings]
            raise UserError(
                f"the inputs must be rows of {len(columns)} columns {columns[:8]}, got {list(numbers.shape)}. Pass them"
                " by name if some are strings"
            )
        return Table(numbers, featurizer.names)
    for name in (*featurizer.names, *featurizer.strings):
        if name not in x:
            raise UserError(f"the inputs must have the column {name!r}, got {[*x]}. Add it")
    columns = [np.asarray(x[name], np.float64) for name in featurizer.names]
    rows = len(next(iter(x.values())))
    numbers = np.stack(columns, -1) if columns else np.zeros((rows, 0))
    strings = {name: np.asarray(x[name], str) for name in featurizer.strings}
    return Table(numbers, featurizer.names, strings)
