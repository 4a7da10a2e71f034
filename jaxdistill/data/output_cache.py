"""What a network says about every example of its splits, on disk: the format of a cache, its writing and reading.

    FOLDER/cache.json                      the header: what is stored, of which splits, by whom, about which images
    FOLDER/train/00000.array_record        a shard: the records of `shard` examples, in order, as ArrayRecord
    FOLDER/train/00000.json                its number of records and of bytes, and its SHA-256

A record is what is said about one example in one view; record `(example - first) * views + view` of a shard whose
first example is `first`. It is the arrays of the header one after another, in that order, C order, little-endian,
nothing between them: no pickle. `bfloat16` is stored as its 16 bits.

A shard is written beside its place and renamed, then its JSON is, so that a shard with a JSON was whole once; one that
is not as its JSON says is found by `Cache.missing`, and is the only one to be written again. What is in a shard depends
on nothing outside of it, so a cache that was interrupted and resumed has the bytes of one that was not.
"""

import dataclasses
import json
import math
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from jaxdistill.core import CACHED
from jaxdistill.data.dataset import Split
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files

HEADER = "cache.json"
FORMAT = 1

DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
"""What floats may be stored as."""

OPTIONS = "group_size:{group},uncompressed"
"""ArrayRecord's: a group is what one random access reads; floats hardly compress, and a plain file is the same file
whatever the version of the compressor."""

RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"


@dataclasses.dataclass(frozen=True)
class Header:
    """What a cache is.

    Attributes:
        arrays: name -> (shape, dtype) of what a record holds; "logits", or "values", "ids" and "log_rest" of a
            top-k; "tap/NAME".
        classes: how many the network distinguishes.
        splits: role -> (examples, views).
        shard: examples per shard.
        view: what determines the images, in plain words; compared key by key.
        teacher: what determines the answers, likewise.
    """

    arrays: Mapping[str, tuple[tuple[int, ...], str]]
    classes: int
    splits: Mapping[str, tuple[int, int]]
    shard: int
    view: Mapping[str, Any]
    teacher: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        """Returns it as plain JSON, `fingerprint` a digest of all the rest."""
        told = json.loads(json.dumps({"format": FORMAT} | dataclasses.asdict(self)))
        return told | {"fingerprint": files.json_digest(told)}

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Header":
        """Reads the header of a cache.

        Raises:
            UserError: where there is none, it cannot be read, or it is not as it was written.
        """
        path = folder / HEADER
        if not path.is_file():
            raise UserError(
                f"no cache in {folder} (there is no {HEADER}); name the folder of a finished stage that caches"
            )
        try:
            told = json.loads(path.read_text())
            found = told.pop("fingerprint") == files.json_digest(told) and told.pop("format") == FORMAT
            told["arrays"] = {name: (tuple(shape), dtype) for name, (shape, dtype) in told["arrays"].items()}
            told["splits"] = {role: tuple(counts) for role, counts in told["splits"].items()}
            header = cls(**told) if found else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} cannot be read as the header of a cache ({error}); {_remedy(folder)}") from error
        if header is None:
            raise UserError(f"{path} was altered, or is of another version of jaxdistill; {_remedy(folder)}")
        return header

    @property
    def record(self) -> np.dtype:
        """The layout of a record, packed."""
        plain = {"bfloat16": "<u2", "float16": "<f2", "float32": "<f4", "uint16": "<u2", "int32": "<i4"}
        return np.dtype([(name, plain[dtype], shape) for name, (shape, dtype) in self.arrays.items()])

    @property
    def records(self) -> int:
        return sum(examples * views for examples, views in self.splits.values())

    @property
    def bytes(self) -> int:
        """What the records are together; a file is some more, 64 KiB at the least."""
        return self.records * self.record.itemsize

    def split_bytes(self, role: str) -> int:
        return math.prod(self.splits[role]) * self.record.itemsize

    def shards(self, role: str) -> list[range]:
        """The examples of each shard of a split."""
        examples, _ = self.splits[role]
        return [range(start, min(start + self.shard, examples)) for start in range(0, examples, self.shard)]


def content(split: Split) -> str:
    """A digest of the images or texts of a split: of all of them up to 64 MiB, else of 256, evenly spaced."""
    places = np.arange(len(split))

    def inputs(places):
        return [np.ascontiguousarray(x) for name, x in sorted(split.take(places).items()) if name != "label"]

    if len(split) * sum(x.nbytes for x in inputs(places[:1])) > 64 << 20:
        places = np.linspace(0, len(split) - 1, 256).astype(int)
    return files.digest(*(x.tobytes() for x in inputs(places)))


class Cache:
    """A cache in a folder, to be written or read; `header` is what it is to be, or is.

    Reading is safe from several threads; files are opened when they are first read.
    """

    def __init__(self, folder: pathlib.Path, header: Header):
        self.folder, self.header = folder, header
        self._readers: dict[pathlib.Path, Any] = {}
        self._lock = threading.Lock()

    def _shard(self, role: str, number: int) -> pathlib.Path:
        return self.folder / role / f"{number:05d}.array_record"

    def begin(self) -> None:
        """Writes the header, or checks that the one that is there is the same; clears what was half-written.

        Raises:
            UserError: where the folder holds another cache, with what was wanted (-) and what is there (+).
        """
        path = self.folder / HEADER
        if path.exists():
            self.check()
        else:
            files.write_json(path, self.header.json())
        for part in self.folder.rglob(f"*{files.PART}"):
            part.unlink()

    def check(self) -> None:
        """Raises `UserError` where the header that is there is another."""
        there = Header.read(self.folder)
        wanted = dataclasses.asdict(self.header)
        lines = []
        for key, value in dataclasses.asdict(there).items():
            pair = (wanted[key], value) if isinstance(value, Mapping) else ({key: wanted[key]}, {key: value})
            lines += files.diff_lines(*pair)
        if lines:
            raise UserError(
                f"{self.folder} holds another cache; what is wanted (-) and what is there (+):\n  "
                + "\n  ".join(lines)
                + f"\nTo make it again, move {self.folder} away"
            )

    def missing(self) -> list[tuple[str, int]]:
        """The (split, number) of the shards that are not there, or not as they were written. Reads every byte."""
        return [
            (role, number)
            for role in self.header.splits
            for number in range(len(self.header.shards(role)))
            if not self._whole(role, number)
        ]

    def _whole(self, role: str, number: int) -> bool:
        path = self._shard(role, number)
        try:
            told = json.loads(path.with_suffix(".json").read_text())
            if path.stat().st_size != told["bytes"]:
                return False
            return files.file_digest(path) == told["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write(self, role: str, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes one shard, all of it or nothing.

        Args:
            role: of the split.
            number: of the shard.
            arrays: `[examples of the shard * views, ...]` each, as `Header.arrays` says.

        Raises:
            UserError: for a value that is not finite in the dtype that it is stored as (but for an empty rest's
                -inf), naming the example.
        """
        from array_record.python import array_record_module

        examples, views = self.header.shards(role)[number], self.header.splits[role][1]
        rows = np.zeros(len(examples) * views, self.header.record)
        for name, (_, dtype) in self.header.arrays.items():
            stored = self._stored(arrays[name], name, dtype, role, examples.start, views)
            rows[name] = stored.view(rows.dtype[name].base)
        path = self._shard(role, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = files.part_of(path)
        group = max(1, min(64, 4096 // self.header.record.itemsize))
        writer = array_record_module.ArrayRecordWriter(str(part), OPTIONS.format(group=group))
        for row in rows:
            writer.write(row.tobytes())
        writer.close()
        told = {"records": len(rows), "bytes": part.stat().st_size, "sha256": files.file_digest(part)}
        part.replace(path)
        files.write_json(path.with_suffix(".json"), told)

    def _stored(self, values, name, dtype, role, first, views) -> np.ndarray:
        if dtype not in DTYPES:
            return np.ascontiguousarray(values.astype(dtype))
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(np.asarray(values).astype(DTYPES[dtype]))
        plain = stored.astype(np.float32)
        good = np.isfinite(plain) | (np.isneginf(plain) & np.isneginf(values) & (name == "log_rest"))
        bad = np.flatnonzero(~good.reshape(len(plain), -1).all(1))
        if len(bad):
            raise UserError(
                f"{name} of example {first + bad[0] // views} of the {role} split is not finite as {dtype}; store it as"
                " bfloat16 or float32 (cache.dtype), and look at the network's weights where that does not help"
            )
        return stored

    def take(self, role: str, index: np.ndarray, view: np.ndarray) -> dict[str, np.ndarray]:
        """Reads what is said of examples `index` in views `view % views`, int `[n]` each: `{name: [n, ...]}`."""
        _, views = self._counts(role)
        rows = np.empty(len(index), self.header.record)
        number, place = np.divmod(index, self.header.shard)
        place = place * views + view % views
        for shard in np.unique(number):
            here = np.flatnonzero(number == shard)
            rows[here] = self._read(role, int(shard), [int(p) for p in place[here]])
        return self._arrays(rows)

    def load_all(self, role: str) -> dict[str, np.ndarray]:
        """Reads a whole split: `{name: [examples, views, ...]}`."""
        examples, views = self._counts(role)
        shards = range(len(self.header.shards(role)))
        rows = np.concatenate([self._read(role, number, None) for number in shards])
        return {name: x.reshape(examples, views, *x.shape[1:]) for name, x in self._arrays(rows).items()}

    def _counts(self, role: str) -> tuple[int, int]:
        if role not in self.header.splits:
            raise unknown(f"split in the cache {self.folder}:", role, self.header.splits)
        return self.header.splits[role]

    def _read(self, role: str, number: int, places: list[int] | None) -> np.ndarray:
        path, header = self._shard(role, number), self.header
        whole = len(header.shards(role)[number]) * header.splits[role][1]
        try:
            with self._lock:
                reader = self._readers.get(path) or self._open(path)
                records = reader.read_all() if places is None else reader.read(places)
            rows = np.frombuffer(b"".join(records), header.record)
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise self._damaged(path, error) from error
        if len(rows) != (whole if places is None else len(places)):
            raise self._damaged(path, f"{len(rows)} records")
        return rows

    def _open(self, path: pathlib.Path):
        from array_record.python import array_record_module

        # ArrayRecord aborts nothing but says little of a file that is not there.
        if not path.is_file():
            raise OSError("it is not there")
        reader = array_record_module.ArrayRecordReader(str(path), RANDOM_ACCESS)
        if not reader.ok():
            raise OSError("it is not whole")
        self._readers[path] = reader
        return reader

    def _damaged(self, path: pathlib.Path, why: object) -> UserError:
        reason = " ".join(str(why).split())[:200]
        return UserError(f"the shard {path} of a cache is damaged ({reason}); {_remedy(self.folder)}")

    def _arrays(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        plain = {name: np.ascontiguousarray(rows[name]) for name in self.header.arrays}
        return {name: x.view(DTYPES.get(self.header.arrays[name][1], x.dtype)) for name, x in plain.items()}


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the cached networks of a stage say about one split; `caches` are by the networks' names."""

    caches: Mapping[str, Cache]
    role: str

    def take(self, index: np.ndarray, view: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what is said of examples `index`, int `[n]`, in these views: `{"cached/NAME/ARRAY": [n, ...]}`."""
        return self._named({name: cache.take(self.role, index, view) for name, cache in self.caches.items()})

    def load_all(self) -> dict[str, np.ndarray]:
        """Returns all that is said: `{"cached/NAME/ARRAY": [examples, views, ...]}`."""
        return self._named({name: cache.load_all(self.role) for name, cache in self.caches.items()})

    def _named(self, said: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {f"{CACHED}{name}/{array}": x for name, arrays in said.items() for array, x in arrays.items()}


NO_ANSWERS = Answers({}, "")


def _remedy(folder: pathlib.Path) -> str:
    return f"the command that made {folder}, given again, finds what is damaged there and writes it anew"
