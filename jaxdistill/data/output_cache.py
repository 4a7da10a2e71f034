"""Caches of a network's outputs on disk: their format, writing and reading.

    FOLDER/cache.json                      the header: arrays, splits, teacher and images
    FOLDER/train/00000.array_record        a shard: the records of `shard` examples, in order, as ArrayRecord
    FOLDER/train/00000.json                its number of records and of bytes, and its SHA-256
    FOLDER/shared.bin, shared.json         arrays that all records share, likewise, if there are any

A record is the output for one example in one view; record `(example - first) * views + view` of a shard whose
first example is `first`. It is the arrays of the header, in that order (`cache_records.py`): no pickle.

A shard is written under a temporary name and renamed, then its JSON is, so that a shard with a JSON was complete once.
`Cache.missing` lists the shards that differ from their JSON; only those are written again. The content of a shard
depends on nothing outside of it, so a cache that was interrupted and resumed has the bytes of an uninterrupted one.
"""

import dataclasses
import json
import math
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdistill.core import CACHED
from jaxdistill.data.cache_records import convert, make_layout, read_arrays, read_dtype
from jaxdistill.data.dataset import Split
from jaxdistill.data.dense import DENSE_FIELDS
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files

HEADER = "cache.json"
FORMAT = 1

OPTIONS = "group_size:{group},uncompressed"
"""Options of ArrayRecord: one random access reads a group. Floats hardly compress, and an uncompressed file does not
depend on the version of a compressor."""

RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of a cache.

    Attributes:
        arrays: name -> (shape, dtype) of the arrays of a record: "logits", or "values", "ids" and "log_rest" of a
            top-k, or "hidden" and, of int8, its "scale", or "ids" and "negative_entropy" of drawn classes; "tap/NAME".
            Whole numbers of N bits, `uintN`, are packed along the last axis.
        classes: number of the network's classes.
        splits: role -> (examples, views).
        shard: examples per shard.
        view: facts that determine the images, in plain words; compared key by key.
        teacher: facts that determine the outputs, likewise.
        shared: name -> (shape, dtype) of arrays of all records: the "kernel" and the "bias" of hidden states.
    """

    arrays: Mapping[str, tuple[tuple[int, ...], str]]
    classes: int
    splits: Mapping[str, tuple[int, int]]
    shard: int
    view: Mapping[str, Any]
    teacher: Mapping[str, Any]
    shared: Mapping[str, tuple[tuple[int, ...], str]] = dataclasses.field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Returns the header as plain JSON, `fingerprint` a digest of all the rest."""
        facts = json.loads(json.dumps({"format": FORMAT} | dataclasses.asdict(self)))
        return facts | {"fingerprint": files.json_digest(facts)}

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Header":
        """Reads the header of a cache.

        Raises:
            UserError: for a missing, unreadable or altered header.
        """
        path = folder / HEADER
        if not path.is_file():
            raise UserError(
                f"no cache in {folder} (there is no {HEADER}); name the folder of a finished stage that caches"
            )
        try:
            facts = json.loads(path.read_text())
            intact = facts.pop("fingerprint") == files.json_digest(facts) and facts.pop("format") == FORMAT
            for key in ("arrays", "shared"):
                facts[key] = {name: (tuple(shape), dtype) for name, (shape, dtype) in facts[key].items()}
            facts["splits"] = {role: tuple(counts) for role, counts in facts["splits"].items()}
            header = cls(**facts) if intact else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} cannot be read as the header of a cache ({error}); {_remedy(folder)}") from error
        if header is None:
            raise UserError(f"{path} was altered, or is of another version of jaxdistill; {_remedy(folder)}")
        return header

    @property
    def record(self) -> np.dtype:
        """The layout of a record, packed."""
        return make_layout(self.arrays)

    @property
    def records(self) -> int:
        """Number of records."""
        return sum(examples * views for examples, views in self.splits.values())

    @property
    def bytes(self) -> int:
        """Bytes of all records and of what they share; a file of records has some more, at least 64 KiB."""
        return self.records * self.record.itemsize + make_layout(self.shared).itemsize

    def split_bytes(self, role: str) -> int:
        """Bytes of the records of a split."""
        return math.prod(self.splits[role]) * self.record.itemsize

    def shards(self, role: str) -> list[range]:
        """The examples of each shard of a split."""
        examples, _ = self.splits[role]
        return [range(start, min(start + self.shard, examples)) for start in range(0, examples, self.shard)]


ANSWERS = {"label", *DENSE_FIELDS}
"""Fields that outputs do not depend on."""


def content(split: Split) -> str:
    """Returns a digest of the images or texts of a split: of all of them up to 64 MiB, else of 256, evenly spaced."""
    positions = np.arange(len(split))

    def inputs(positions: np.ndarray) -> list[np.ndarray]:
        return [np.ascontiguousarray(x) for name, x in sorted(split.take(positions).items()) if name not in ANSWERS]

    if len(split) * sum(x.nbytes for x in inputs(positions[:1])) > 64 << 20:
        positions = np.linspace(0, len(split) - 1, 256).astype(int)
    return files.digest(*(x.tobytes() for x in inputs(positions)))


class Cache:
    """A cache in a folder, to be written or read; `header` is the expected one.

    Reading is safe from several threads; files are opened when they are first read.
    """

    def __init__(self, folder: pathlib.Path, header: Header) -> None:
        self.folder, self.header = folder, header
        self._readers: dict[pathlib.Path, Any] = {}
        self._lock = threading.Lock()

    def _shard(self, role: str, number: int) -> pathlib.Path:
        return self.folder / role / f"{number:05d}.array_record"

    def begin(self) -> None:
        """Writes the header, or checks that the existing one is the same; clears incomplete files.

        Raises:
            UserError: if the folder holds another cache, with the expected facts (-) and the existing ones (+).
        """
        path = self.folder / HEADER
        if path.exists():
            self.check()
        else:
            files.write_json(path, self.header.json())
        for part in self.folder.rglob(f"*{files.PART}"):
            part.unlink()

    def check(self) -> None:
        """Raises `UserError` if the existing header is another."""
        existing = Header.read(self.folder)
        expected = dataclasses.asdict(self.header)
        lines = []
        for key, value in dataclasses.asdict(existing).items():
            pair = (expected[key], value) if isinstance(value, Mapping) else ({key: expected[key]}, {key: value})
            lines += files.diff_lines(*pair)
        if lines:
            raise UserError(
                f"{self.folder} holds another cache; the expected facts (-) and the existing ones (+):\n  "
                + "\n  ".join(lines)
                + f"\nTo make it again, move {self.folder} away"
            )

    def missing(self) -> list[tuple[str, int]]:
        """Returns the (split, number) of the shards that are missing or altered; reads every byte."""
        return [
            (role, number)
            for role in self.header.splits
            for number in range(len(self.header.shards(role)))
            if not self._is_intact(role, number)
        ]

    def _is_intact(self, role: str, number: int) -> bool:
        return _is_file_intact(self._shard(role, number))

    @property
    def has_shared(self) -> bool:
        """Whether the arrays that all records share are there, as they were written; reads every byte."""
        return not self.header.shared or _is_file_intact(self._shared)

    @property
    def _shared(self) -> pathlib.Path:
        return self.folder / "shared.bin"

    def write_shared(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the arrays that all records share, by the names of `Header.shared`."""
        rows = np.zeros(1, make_layout(self.header.shared))
        for name, (_, dtype) in self.header.shared.items():
            rows[name] = convert(np.asarray(arrays[name]), dtype).view(rows.dtype[name].base)
        content = rows.tobytes()
        files.write_bytes(self._shared, content)
        files.write_json(
            self._shared.with_suffix(".json"), {"bytes": len(content), "sha256": files.file_digest(self._shared)}
        )

    def read_shared(self) -> dict[str, np.ndarray]:
        """Returns the arrays that all records share.

        Raises:
            UserError: for a missing or altered file.
        """
        if not self.header.shared:
            return {}
        if not self.has_shared:
            raise self._damaged(self._shared, "it is missing or altered")
        rows = np.frombuffer(self._shared.read_bytes(), make_layout(self.header.shared))
        return {name: x[0] for name, x in read_arrays(rows, self.header.shared).items()}

    def write(self, role: str, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes one shard, all of it or nothing.

        Args:
            role: of the split.
            number: of the shard.
            arrays: `[examples of the shard * views, ...]` each, by the names of `Header.arrays`.

        Raises:
            UserError: for a value that is not finite in its stored dtype, naming the example. The -inf of an empty
                rest is permitted.
        """
        from array_record.python import array_record_module

        examples, views = self.header.shards(role)[number], self.header.splits[role][1]
        rows = np.zeros(len(examples) * views, self.header.record)
        for name, (_, dtype) in self.header.arrays.items():
            values = np.asarray(arrays[name])
            stored = convert(values, dtype)
            bad = _first_bad_row(name, values, stored)
            if bad is not None:
                raise UserError(
                    f"{name} of example {examples.start + bad // views} of the {role} split is not finite as {dtype};"
                    " store it as bfloat16 or float32 (cache.dtype), and check the network's weights if that fails"
                )
            rows[name] = stored.view(rows.dtype[name].base)
        path = self._shard(role, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = files.part_of(path)
        group = max(1, min(64, 4096 // self.header.record.itemsize))
        writer = array_record_module.ArrayRecordWriter(str(part), OPTIONS.format(group=group))
        for row in rows:
            writer.write(row.tobytes())
        writer.close()
        facts = {"records": len(rows), "bytes": part.stat().st_size, "sha256": files.file_digest(part)}
        part.replace(path)
        files.write_json(path.with_suffix(".json"), facts)

    def take(self, role: str, index: np.ndarray, view: np.ndarray) -> dict[str, np.ndarray]:
        """Reads the outputs for examples `index` in views `view % views`, int `[n]` each: `{name: [n, ...]}`."""
        _, views = self._counts(role)
        rows = np.empty(len(index), self.header.record)
        number, record = np.divmod(index, self.header.shard)
        record = record * views + view % views
        for shard in np.unique(number):
            of_shard = np.flatnonzero(number == shard)
            rows[of_shard] = self._read(role, int(shard), [int(r) for r in record[of_shard]])
        return self._arrays(rows)

    def load_all(self, role: str) -> dict[str, np.ndarray]:
        """Reads a whole split: `{name: [examples, views, ...]}`."""
        examples, views = self._counts(role)
        shards = range(len(self.header.shards(role)))
        rows = np.concatenate([self._read(role, number, None) for number in shards])
        return {name: x.reshape(examples, views, *x.shape[1:]) for name, x in self._arrays(rows).items()}

    def _counts(self, role: str) -> tuple[int, int]:
        if role not in self.header.splits:
            raise unknown(f"the split of the cache {self.folder}", role, self.header.splits)
        return self.header.splits[role]

    def _read(self, role: str, number: int, positions: list[int] | None) -> np.ndarray:
        path, header = self._shard(role, number), self.header
        total = len(header.shards(role)[number]) * header.splits[role][1]
        try:
            with self._lock:
                reader = self._readers.get(path) or self._open(path)
                records = reader.read_all() if positions is None else reader.read(positions)
            rows = np.frombuffer(b"".join(records), header.record)
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise self._damaged(path, error) from error
        if len(rows) != (total if positions is None else len(positions)):
            raise self._damaged(path, f"{len(rows)} records")
        return rows

    def _open(self, path: pathlib.Path) -> Any:
        from array_record.python import array_record_module

        # The message of ArrayRecord for a missing file is hard to understand.
        if not path.is_file():
            raise OSError("it is missing")
        reader = array_record_module.ArrayRecordReader(str(path), RANDOM_ACCESS)
        if not reader.ok():
            raise OSError("it is incomplete")
        self._readers[path] = reader
        return reader

    def _damaged(self, path: pathlib.Path, why: object) -> UserError:
        reason = " ".join(str(why).split())[:200]
        return UserError(f"the shard {path} of a cache is damaged ({reason}); {_remedy(self.folder)}")

    def _arrays(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return read_arrays(rows, self.header.arrays)


@dataclasses.dataclass(frozen=True)
class CachedOutputs:
    """The outputs of the cached networks of a stage for one split; `caches` are by the networks' names."""

    caches: Mapping[str, Cache]
    role: str

    def take(self, index: np.ndarray, view: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for examples `index`, int `[n]`, in these views: `{"cached/NAME/ARRAY": [n, ...]}`."""
        return self._named({name: cache.take(self.role, index, view) for name, cache in self.caches.items()})

    def load_all(self) -> dict[str, np.ndarray]:
        """Returns the outputs for all examples: `{"cached/NAME/ARRAY": [examples, views, ...]}`."""
        return self._named({name: cache.load_all(self.role) for name, cache in self.caches.items()})

    def _named(self, outputs: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {f"{CACHED}{name}/{array}": x for name, arrays in outputs.items() for array, x in arrays.items()}


NO_OUTPUTS = CachedOutputs({}, "")


class BlankOutputs(CachedOutputs):
    """Zeros in the place of outputs, whose caches a plan may be made before."""

    def take(self, index: np.ndarray, view: np.ndarray) -> dict[str, np.ndarray]:
        """Returns zeros for examples `index`, int `[n]`: `{"cached/NAME/ARRAY": [n, ...]}`."""
        return self._named(
            {
                name: {
                    array: np.zeros((len(index), *shape), read_dtype(dtype))
                    for array, (shape, dtype) in cache.header.arrays.items()
                }
                for name, cache in self.caches.items()
            }
        )


def _is_file_intact(path: pathlib.Path) -> bool:
    """Whether a file is as its JSON describes it."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text())
        if path.stat().st_size != facts["bytes"]:
            return False
        return files.file_digest(path) == facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _first_bad_row(name: str, values: np.ndarray, stored: np.ndarray) -> int | None:
    """Returns the first row that is not finite in its stored dtype, or `None`."""
    if stored.dtype.kind in "iu":
        return None
    plain = stored.astype(np.float32)
    good = np.isfinite(plain) | (np.isneginf(plain) & np.isneginf(values) & (name == "log_rest"))
    bad = np.flatnonzero(~good.reshape(len(plain), -1).all(1))
    return int(bad[0]) if len(bad) else None


def _remedy(folder: pathlib.Path) -> str:
    return f"the command that made {folder}, given again, writes the damaged files anew"
