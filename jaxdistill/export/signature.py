"""Raw inputs of a network, and the way from images, texts and rows of tables to its arrays."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdistill.data.dataset import Target
from jaxdistill.data.tables import featurizer as featurizers
from jaxdistill.data.tables.featurizer import Featurizer
from jaxdistill.data.tables.table import Table
from jaxdistill.data.tokenizers import FILE as TOKENIZER
from jaxdistill.data.tokenizers import open_tokenizer
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime.files import input_path

BYTES = "bytes"
"""The tokenizer of texts whose tokens are their bytes."""

PROBABILITIES = {"classes": jax.nn.softmax, "labels": jax.nn.sigmoid}
"""The function from logits to probabilities, by the form of the predictions that have any."""

DEFAULTS = {"segment": 0, "token_mask": 1}
"""Inputs beside tokens that may be left out, and their value."""


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
        predictions: "classes", "labels", "boxes", or the distribution whose numbers a prediction is.
        class_names: in the order of the logits; none if they are numbers.
        tokenizer: folder or file of the tokenizer of texts, `BYTES`, or "" for none.
        featurizer: the fitted transforms of a table; `None` for images and texts.
        targets: the numbers that it predicts, with their units; none for classes.
    """

    inputs: Mapping[str, Input]
    predictions: str = "classes"
    class_names: tuple[str, ...] = ()
    tokenizer: str = ""
    featurizer: Featurizer | None = None
    targets: tuple[Target, ...] = ()

    @property
    def main(self) -> str:
        """The name of the main input."""
        return next(iter(self.inputs))

    @property
    def output(self) -> str:
        """The name of the output of a file: "probabilities" of classes or labels, or "values"."""
        return "probabilities" if self.predictions in PROBABILITIES else "values"

    def to_json(self) -> dict[str, Any]:
        """Returns the signature without the tokenizer and the transforms, which are files beside."""
        inputs = {name: {"shape": list(x.shape), "dtype": x.dtype} for name, x in self.inputs.items()}
        return {
            "inputs": inputs,
            "output": self.output,
            "predictions": self.predictions,
            "class_names": list(self.class_names),
            "tokenizer": self._tokenizer_beside(),
            "featurizer": featurizers.FILE if self.featurizer else "",
            "targets": [dataclasses.asdict(target) for target in self.targets],
        }

    def _tokenizer_beside(self) -> str:
        """Returns the path of the tokenizer's copy, relative to the folder of an export."""
        if self.tokenizer in ("", BYTES):
            return self.tokenizer
        return TOKENIZER if input_path("tokenizer", self.tokenizer.removeprefix("hf:")).is_file() else "."

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
            targets=tuple(Target(**target) for target in raw.get("targets", ())),
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
        if self.featurizer is not None and not (isinstance(x, Mapping) and self.main in x):
            return self._featurize(x, self.featurizer)
        if isinstance(x, Mapping):
            return self._check({name: _numbers(name, array) for name, array in x.items()})
        if isinstance(x, str | bytes):
            raise UserError(f"the inputs must be several texts, got one: {x[:40]!r}. Write [text]")
        if isinstance(x, np.ndarray) and x.dtype.kind in "UO":
            x = x.tolist()
        if isinstance(x, Sequence) and not len(x):
            return {name: np.zeros((0, *entry.shape), entry.dtype) for name, entry in self.inputs.items()}
        if isinstance(x, Sequence) and any(map(_is_text, x)):
            return self._check(self._tokenize(x))
        return self._check(self._with_mask(_numbers(self.main, x)))

    def _featurize(self, x: Any, featurizer: Featurizer) -> dict[str, np.ndarray]:
        """Returns the features of the rows of a table; transforms take at least one row."""
        table = _table(featurizer, x)
        if not len(table):
            return {self.main: np.zeros((0, *self.inputs[self.main].shape), np.float32)}
        return self._check({self.main: featurizers.apply(featurizer, table)})

    def _tokenize(self, texts: Sequence[Any]) -> dict[str, np.ndarray]:
        """Returns the tokens of texts, or of pairs of texts, padded to the length that the network takes."""
        if not self.tokenizer:
            raise UserError(f"the inputs must be arrays of {self._shown()}, got texts. The network has no tokenizer")
        are_pairs, length = _are_pairs(texts), self.inputs[self.main].shape[0]
        if self.tokenizer == BYTES:
            if are_pairs:
                raise UserError(
                    "the inputs must be texts for a network of bytes, got pairs. Join each pair to one text"
                )
            rows = [np.frombuffer(text.encode()[:length], np.uint8) for text in texts]
            return self._pad({"tokens": rows}, length)
        firsts, seconds = ([*part] for part in zip(*texts, strict=True)) if are_pairs else ([*texts], None)
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
        return self._pad({self.main: [*_cast(self.main, x, self.inputs[self.main].dtype)]}, length)

    def _check(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns arrays in the order and the dtypes of the inputs, or raises `UserError` for others."""
        for name in arrays:
            if name not in self.inputs:
                raise unknown("the inputs", name, self.inputs, "an input of the network")
        for name in self.inputs:
            if name not in arrays and (name == self.main or name not in DEFAULTS):
                raise UserError(f"the inputs must be {self._shown()}, got {[*arrays]} without {name!r}. Add it")
        first = arrays[self.main]
        defaults = {name: np.full(first.shape, value, np.int32) for name, value in DEFAULTS.items()}
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


def _is_text(item: Any) -> bool:
    """Whether an item of the inputs is a text, or a pair that has one."""
    return isinstance(item, str) or (isinstance(item, tuple | list) and any(isinstance(part, str) for part in item))


def _are_pairs(texts: Sequence[Any]) -> bool:
    """Whether texts are pairs, as the first one is; raises `UserError` if another is not of its kind."""
    are_pairs = not isinstance(texts[0], str)
    for item in texts:
        if not (_is_pair(item) if are_pairs else isinstance(item, str)):
            raise UserError(
                f"the inputs must be texts alone, or pairs (text, text) alone, got {str(item)[:60]!r} among them."
                " Correct it"
            )
    return are_pairs


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item)


def _numbers(name: str, x: Any) -> np.ndarray:
    """Returns an array of numbers, or raises `UserError`."""
    try:
        array = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name} must be an array, got rows of several lengths ({error}). Pad them") from error
    if array.dtype.kind not in "biuf":
        raise UserError(f"{name} must be an array of numbers, got {array.dtype} {list(array.shape)}. Convert it")
    return array


def _cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    """Returns an array in the dtype of an input; images may be uint8 from 0 to 255 or floats from 0 to 1."""
    is_float, wanted = np.issubdtype(array.dtype, np.floating), np.dtype(dtype)
    if name == "image" and is_float and wanted == np.uint8:
        if array.size and not 0 <= array.min() <= array.max() <= 1:
            raise UserError("images of floats must be in [0, 1], got others. Divide them by 255, or pass uint8")
        return np.round(array * 255).astype(np.uint8)
    if name == "image" and not is_float and wanted != np.uint8:
        return (_cast(name, array, "uint8") / np.float32(255)).astype(wanted)
    if not np.issubdtype(wanted, np.integer):
        return array.astype(wanted)
    if not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{name} must be integers ({dtype}), got {array.dtype}. Convert it")
    largest = np.iinfo(wanted).max
    if array.size and not 0 <= array.min() <= array.max() <= largest:
        raise UserError(f"{name} must be integers from 0 to {largest}, got {array.min()} to {array.max()}. Convert it")
    return array.astype(wanted)


def _table(featurizer: Featurizer, x: Any) -> Table:
    """Returns rows, or columns by name, as the raw table that transforms were fitted on."""
    names = [*featurizer.names, *featurizer.strings]
    if not isinstance(x, Mapping):
        if isinstance(x, Sequence) and not len(x):
            return Table(np.zeros((0, len(featurizer.names))), featurizer.names)
        if featurizer.strings:
            raise UserError(
                f"the inputs must be columns by name, {names[:8]}, since some are strings, got a {type(x).__name__}."
                " Pass them by name"
            )
        numbers = _floats("the inputs", x)
        if numbers.ndim != 2 or numbers.shape[1] != len(names):
            raise UserError(
                f"the inputs must be rows of {len(names)} columns {names[:8]}, got {list(numbers.shape)}. Pass as many"
            )
        return Table(numbers, featurizer.names)
    for name in names:
        if name not in x:
            raise UserError(f"the inputs must have the column {name!r}, got {[*x]}. Add it")
    for name in x:
        if name not in names:
            raise unknown("the inputs", name, names, "a column of the table")
    columns = {name: _floats(f"the column {name!r}", x[name]) for name in featurizer.names}
    columns |= {name: np.asarray(x[name], str) for name in featurizer.strings}
    lengths = {len(column) if column.ndim == 1 else -1 for column in columns.values()}
    if len(lengths) > 1 or -1 in lengths:
        shapes = {name: list(column.shape) for name, column in columns.items()}
        raise UserError(f"the inputs must be columns of one length, got {shapes}. Pass a list for each column")
    numbers = [columns.pop(name) for name in featurizer.names]
    rows = len(next(iter(columns.values()))) if columns else 0
    return Table(np.stack(numbers, -1) if numbers else np.zeros((rows, 0)), featurizer.names, columns)


def _floats(name: str, x: Any) -> np.ndarray:
    """Returns numbers in float64, NaN for `None`, or raises `UserError`."""
    try:
        return np.asarray(x, np.float64)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name} must be numbers, got others ({error}). Correct them") from error
