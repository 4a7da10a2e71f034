"""Weights of one network in another format: checked by names and shapes, and read onto the devices."""

import dataclasses
import functools
import math
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdistill.core import path_name
from jaxdistill.errors import UserError
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.networks.meaning import Meaning
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.tensors import DTYPES, Tensor
from jaxdistill.runtime import files

ALIGNMENT = 64
"""Bytes that the addresses of XLA's arrays on a CPU are multiples of."""

SHOWN = 12
"""The number of names that a message lists for each kind of difference."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights of one network in a file or a folder of another format.

    Attributes:
        path: as the config names it, with the format.
        files: that hold the tensors.
        tensors: by name.
        correspondence: of the model's arrays with them.
        image_spec: the images that the network was trained on; `None` for texts, or if it is not stored.
        meaning: its classes and tokenizer, if they are stored.
    """

    path: str
    files: tuple[pathlib.Path, ...]
    tensors: Mapping[str, Tensor]
    correspondence: Correspondence
    image_spec: ImageSpec | None = None
    meaning: Meaning = dataclasses.field(default_factory=Meaning)

    def taking(self, blocks: Sequence[int]) -> "Pretrained":
        """Returns the weights of a network of some of the blocks.

        Raises:
            UserError: for a block that the weights do not have.
        """
        count = self.correspondence.block_count
        if wrong := [block for block in blocks if not 0 <= block < count]:
            expected = f"numbers from 0 to {count - 1}" if count else "() for a network without blocks"
            raise UserError(f"blocks of weights={self.path!r} must be {expected}, got {wrong}. Correct them")
        return dataclasses.replace(self, correspondence=self.correspondence.taking(blocks))

    def as_part(self, part: str, tail: re.Pattern[str]) -> "Pretrained":
        """Returns the weights of a network of which this one, without the arrays that `tail` matches, is a part."""
        return dataclasses.replace(self, correspondence=self.correspondence.as_part(part, tail))

    def check(self, shapes: Mapping[str, Any], new_head: bool = False) -> None:
        """Raises `UserError` with lines of + and - unless the tensors are those of a network.

        Args:
            shapes: `{collection: tree}` of `ShapeDtypeStruct`s.
            new_head: whether arrays of the head may be missing, and those in the file are left out.
        """
        expected = _flatten(shapes)
        sources = self._sources(expected, new_head)
        missing: list[Any] = []
        misshapen: list[Any] = []
        used: set[str] = set()
        for name, shape in {name: struct.shape for name, struct in expected.items()}.items():
            entries = sources.get(name)
            if not entries:
                missing += [] if new_head and self.correspondence.is_head(name) else [(name, shape)]
                continue
            for entry in entries:
                used.add(entry.tensor)
                block_shape = shape[1:] if len(entries) > 1 or _is_stacked(name) else shape
                tensor = self.tensors[entry.tensor]
                if not entry.layout.fits(_part_shape(tensor.shape, entry), block_shape):
                    misshapen.append((name, entry, shape, tensor.shape))
        heads = {entry.tensor for entry in self.correspondence.entries if entry.head and new_head}
        ignored = {name for name in self.tensors if self.correspondence.is_ignored(name)}
        extra = [(name, self.tensors[name].shape) for name in self.tensors if name not in used | heads | ignored]
        self._raise(missing, misshapen, extra, new_head)
        self._check_dtypes(used)

    def _raise(self, missing: Sequence, misshapen: Sequence, extra: Sequence, new_head: bool) -> None:
        lines = [f"- {name} {list(shape)}: (nothing)" for name, shape in missing[:SHOWN]]
        lines += [
            f"- {name} {list(shape)}\n  + {entry.tensor} {list(actual)}"
            for name, entry, shape, actual in misshapen[:SHOWN]
        ]
        lines += [f"+ {name} {list(shape)}: (no array of the network)" for name, shape in extra[:SHOWN]]
        if not lines:
            return
        left = len(missing) + len(misshapen) + len(extra) - sum(len(x[:SHOWN]) for x in (missing, misshapen, extra))
        lines += [f"and {left} more"] if left else []
        names = [name for name, *_ in (*missing, *misshapen)]
        is_head = names and not extra and all(self.correspondence.is_head(name) for name in names)
        fix = "Correct the fields of the network, or leave them out: they follow from the weights."
        if is_head and not new_head:
            fix = "Set head='new' for a head with fresh weights on this network, in a stage that trains it."
        elif missing and not misshapen and self._is_incomplete(missing, [name for name, _ in extra]):
            fix = "The files, or their index, lack tensors that belong to them. Download all files again."
        raise UserError(
            f"weights={self.path!r} must be of this network ({self.correspondence.model}); expected (-) and there"
            " (+):\n  " + "\n  ".join(lines) + f"\n{fix}"
        )

    def _is_incomplete(self, missing: Sequence, tensors: Collection[str]) -> bool:
        """Whether missing arrays, and tensors that are left, are of the network that the format describes."""
        entries = self.correspondence.entries
        described = {entry.name for entry in entries}
        stacked = {re.sub(r"\.block\d+\.", ".blocks.", name) for name in described}
        count = self.correspondence.block_count
        are_described = all(
            shape[0] == count and name in stacked if _is_stacked(name) else name in described for name, shape in missing
        )
        return are_described and {entry.tensor for entry in entries}.issuperset(tensors)

    def _check_dtypes(self, used: set[str]) -> None:
        wrong = [f"{name} ({self.tensors[name].dtype})" for name in sorted(used) if not self.tensors[name].is_weight]
        if wrong:
            raise UserError(
                f"weights={self.path!r} must be floating-point numbers ({', '.join(DTYPES)}), got {wrong[:4]}. Take the"
                " weights before they were quantized"
            )

    def read(self, shapes: Mapping[str, Any], new_head: bool = False) -> dict[str, Any]:
        """Reads a network's variables, on each process and device the parts that it holds, one array at a time.

        Args:
            shapes: `{collection: tree}` of `ShapeDtypeStruct`s with shardings; numbers are converted to their dtypes.
            new_head: whether arrays of the head are left out, for fresh ones.

        Raises:
            UserError: as `check`, and for NaN.
        """
        self.check(shapes, new_head)
        expected = _flatten(shapes)
        arrays = {
            name: self._read_one(name, expected[name], entries)
            for name, entries in self._sources(expected, new_head).items()
        }
        return _unflatten(arrays)

    def _read_one(self, name: str, struct: jax.ShapeDtypeStruct, entries: Sequence[Entry]) -> jax.Array:
        stacked = _is_stacked(name)
        block_shape = struct.shape[1:] if stacked else struct.shape

        def view(entry: Entry) -> np.ndarray:
            tensor = self.tensors[entry.tensor].open()
            if entry.parts > 1:
                size = tensor.shape[entry.axis] // entry.parts
                places = [slice(None)] * tensor.ndim
                places[entry.axis] = slice(size * entry.part, size * (entry.part + 1))
                tensor = tensor[tuple(places)]
            return entry.layout.from_tensor(tensor, block_shape)

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            index = (slice(None),) * len(struct.shape) if index is None else index
            if stacked:
                views = [view(entry)[index[1:]] for entry in entries[index[0]]]
                copy = _aligned((len(views), *views[0].shape), struct.dtype)
                for place, block in zip(copy, views, strict=True):
                    place[...] = block
                return copy
            whole = view(entries[0])[index]
            copy = _aligned(whole.shape, struct.dtype)
            copy[...] = whole
            return copy

        sharding = getattr(struct, "sharding", None)
        if sharding is None:
            return self._checked(name, jax.device_put(part(None)))
        return self._checked(name, jax.make_array_from_callback(struct.shape, sharding, part))

    def _checked(self, name: str, array: jax.Array) -> jax.Array:
        # The largest number is NaN if any is, and takes no array of its own.
        if any(np.isnan(np.max(shard.data, initial=-np.inf)) for shard in array.addressable_shards):
            raise UserError(f"weights={self.path!r} must be numbers, got NaN in {name}. Take another file")
        return array

    def fingerprint(self) -> str:
        """Returns a digest of the weights, whatever the place of their files."""
        return files.json_digest([[_file_digest(*_identity(path)) for path in self.files], str(self.image_spec)])

    def _sources(self, expected: Mapping[str, Any], new_head: bool) -> dict[str, list[Entry]]:
        """Returns the entries of each array that has a tensor; of an array that stacks blocks, those of all blocks."""
        by_name = {
            entry.name: entry
            for entry in self.correspondence.entries
            if entry.tensor in self.tensors and not (entry.head and new_head)
        }
        sources = {}
        for name, struct in expected.items():
            if _is_stacked(name):
                names = [name.replace(".blocks.", f".block{layer}.", 1) for layer in range(struct.shape[0])]
                present = [by_name[key] for key in names if key in by_name]
                if len(present) == len(names):
                    sources[name] = present
            elif name in by_name:
                sources[name] = [by_name[name]]
        return sources


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns an array in memory that a CPU's device takes over without a copy, which it does at multiples of 64."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def _is_stacked(name: str) -> bool:
    """Whether an array has a first axis over the blocks of a scanned model."""
    return ".blocks." in name


def _part_shape(shape: tuple[int, ...], entry: Entry) -> tuple[int, ...]:
    if entry.parts == 1:
        return shape
    if len(shape) <= entry.axis or shape[entry.axis] % entry.parts:
        return ()
    return (*shape[: entry.axis], shape[entry.axis] // entry.parts, *shape[entry.axis + 1 :])


def _flatten(shapes: Mapping[str, Any]) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(dict(shapes))
    return {path_name(path).replace("/", "."): leaf for path, leaf in leaves}


def _unflatten(arrays: Mapping[str, jax.Array]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *folders, last = name.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = array
    return tree


@functools.lru_cache
def _file_digest(path: pathlib.Path, size: int, modified: int) -> str:
    return files.file_digest(path)


def _identity(path: pathlib.Path) -> tuple[pathlib.Path, int, int]:
    stat = path.stat()
    return path, stat.st_size, stat.st_mtime_ns
