"""Files of object stores (`gs://`, `s3://`) as files of this machine, through fsspec.

What is read, such as data and weights, is fetched into a folder of this machine before it is opened; what is there
already with the same size and version is not fetched again. `runtime.mirror` writes a workdir.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError
from jaxdistill.runtime import files

EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "memory": ""}
"""Schemes of URLs that are fetched and mirrored, with the extra that installs their library."""

FOLDER = "JAXDISTILL_REMOTE"
"""The variable that names the folder of fetched files; `~/.cache/jaxdistill/remote` without it."""

FRESH = 60.0
"""Seconds for which a URL that was fetched is not listed again by the same process."""

GROUP = 64
"""Files that one request of fsspec fetches or writes, which does several at a time."""

VERSIONS = ("ETag", "etag", "md5Hash", "crc32c", "generation", "mtime", "updated", "LastModified", "created")
"""Keys of a listing that name the version of an object, which depend on the store."""

_lock = threading.RLock()
_fetched: dict[str, float] = {}


def is_url(text: str) -> bool:
    """Whether a path is a URL that can be fetched."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme in EXTRAS


@dataclasses.dataclass(frozen=True)
class Store:
    """A file or a folder of an object store.

    Attributes:
        url: its URL without a last slash.
        system: the file system of fsspec.
        root: its path there.
    """

    url: str
    system: Any
    root: str

    def list(self) -> dict[str, Mapping[str, Any]]:
        """Returns the objects below the URL, by their path in it; "" for an object at the URL itself."""
        self.system.invalidate_cache()
        listed = self.system.find(self.root, detail=True)
        return {path[len(self.root) :].strip("/"): info for path, info in listed.items() if not path.endswith("/")}

    def read(self, name: str) -> bytes | None:
        """Returns the content of an object; `None` if it is missing."""
        try:
            return self.system.cat_file(self._path(name))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes an object as a whole."""
        self.system.pipe_file(self._path(name), content)

    def get(self, names: Iterable[str], folder: pathlib.Path) -> None:
        """Fetches objects into a folder; each is there as a whole or not at all."""
        for group in _groups(names):
            places = [folder / name if name else folder for name in group]
            parts = [place.with_name(f"{place.name}.{os.getpid()}{files.PART}") for place in places]
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
            self.system.get([self._path(name) for name in group], [str(part) for part in parts])
            for part, place in zip(parts, places, strict=True):
                part.replace(place)

    def put(self, names: Iterable[str], folder: pathlib.Path) -> None:
        """Writes files of a folder; each object is there as a whole or not at all."""
        for group in _groups(names):
            self.system.put([str(folder / name) for name in group], [self._path(name) for name in group])

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects; those that are missing are left out."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self.system.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root


def _groups(names: Iterable[str]) -> Iterator[list[str]]:
    rest = list(names)
    for first in range(0, len(rest), GROUP):
        yield rest[first : first + GROUP]


def open_store(key: str, url: str) -> Store:
    """Returns the store of a URL.

    Raises:
        UserError: if its library is not installed, or refuses the URL.
    """
    import fsspec

    scheme, url = url.partition("://")[0], url.rstrip("/")
    with errors(key, url):
        try:
            system, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise UserError(
                f"{key} must have the library of {scheme}://, got {url!r} without it ({error}). pip install"
                f" 'jaxdistill[{EXTRAS[scheme]}]', or mount the bucket and name the path below the mount"
            ) from error
    return Store(url, system, root.rstrip("/"))


@contextlib.contextmanager
def errors(key: str, url: str, then: str = "") -> Iterator[None]:
    """Turns what a store raises in the `with` block into `UserError`; `then` is a further sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # libraries of stores raise anything
        line = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise UserError(
            f"{key} must be a URL that this machine may read and write, got {url!r} ({line}). Check the name of the"
            f" bucket, its permissions and the login of this machine.{then}"
        ) from error


def local_folder(purpose: str, url: str) -> pathlib.Path:
    """Returns the place of a URL on this machine; its last part is that of the URL.

    Args:
        purpose: "fetched" for files that are read, "runs" for workdirs.
        url: the URL.
    """
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "jaxdistill" / "remote"
    scheme, _, path = url.rstrip("/").partition("://")
    return pathlib.Path(os.environ.get(FOLDER) or default).expanduser() / purpose / scheme / path


def fetch(key: str, url: str) -> pathlib.Path:
    """Fetches a file, a folder, or the files that a pattern names; returns their place on this machine.

    Args:
        key: the key that holds the URL, for messages.
        url: with `*` for several files, which are fetched beside each other.

    Raises:
        UserError: for a URL without an object, or that cannot be read.
    """
    place = local_folder("fetched", url)
    with _lock:
        if time.monotonic() - _fetched.get(url, -FRESH) >= FRESH:
            parts = url.split("/")
            magic = next((i for i, part in enumerate(parts) if "*" in part), len(parts))
            store = open_store(key, "/".join(parts[:magic]))
            with errors(key, url):
                listed = select(store.list(), "/".join(parts[magic:]))
                if not listed:
                    raise UserError(
                        f"{key} must be an existing file or folder, got {url!r}, where nothing is. Correct it"
                    )
                copy(store, local_folder("fetched", store.url), listed)
            _fetched[url] = time.monotonic()
    return place


def select(objects: Mapping[str, Any], pattern: str) -> dict[str, Any]:
    """Returns the objects that match a pattern; all of them if it is empty."""
    if not pattern:
        return dict(objects)
    return {name: info for name, info in objects.items() if pathlib.PurePosixPath("/", name).match(f"/{pattern}")}


def copy(store: Store, folder: pathlib.Path, objects: Mapping[str, Mapping[str, Any]]) -> "Versions":
    """Makes files of a folder those objects of a store; returns their versions. Other files there stay."""
    versions = Versions(folder)
    changed = [name for name, info in objects.items() if not versions.holds(name, describe(info))]
    store.get(changed, folder)
    for name in changed:
        if (size := versions.path(name).stat().st_size) != objects[name]["size"]:
            raise OSError(f"{name} of {store.url} has {objects[name]['size']} bytes, and {size} were read")
        versions.set(name, describe(objects[name]))
    versions.write()
    return versions


def record_copies(store: Store, folder: pathlib.Path) -> None:
    """Records files that were written to a store as copies of its objects, so that they are not fetched again."""
    versions = Versions(folder)
    for name, info in store.list().items():
        if versions.path(name).is_file() and versions.path(name).stat().st_size == info["size"]:
            versions.set(name, describe(info))
    versions.write()


def describe(info: Mapping[str, Any]) -> str:
    """Returns the size and the version of an object from its entry in a listing."""
    return json.dumps([info["size"], *(str(info[key]) for key in VERSIONS if key in info)])


class Versions:
    """The objects that the files of a folder are copies of: their versions, and the state of the files since.

    Args:
        folder: the folder, or the file of a single object.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder, self._path = folder, folder.with_name(f".{folder.name}.versions.json")
        self._entries: dict[str, list[Any]] = {}
        if self._path.is_file():
            self._entries = files.read_json(self._path, dict, "Remove it, and its files are fetched again.")

    def path(self, name: str) -> pathlib.Path:
        """Returns the file of an object."""
        return self._folder / name if name else self._folder

    def holds(self, name: str, version: str) -> bool:
        """Whether the file is an unchanged copy of that version."""
        return self._entries.get(name) == [version, *_state(self.path(name))]

    def set(self, name: str, version: str) -> None:
        """Records that the file as it is now is a copy of that version."""
        self._entries[name] = [version, *_state(self.path(name))]

    def write(self) -> None:
        """Writes the record beside the folder."""
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}{files.PART}")  # several processes may fetch
        files.write_json(part, self._entries)
        part.replace(self._path)


def _state(path: pathlib.Path) -> list[int]:
    try:
        state = path.stat()
    except OSError:
        return [-1, -1]
    return [state.st_size, state.st_mtime_ns]
