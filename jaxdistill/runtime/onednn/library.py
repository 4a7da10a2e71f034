"""oneDNN's library and its custom call: found, compiled once, kept by version, and registered.

The wheels of oneDNN bring a library and headers, and jaxlib brings those of XLA's custom calls. What joins them,
`convolution.cc`, is compiled at the first use by the compiler of the machine and kept in the user's cache folder.
"""

import ctypes
import dataclasses
import fcntl
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile

import jax

from jaxdistill.errors import UserError
from jaxdistill.runtime.onednn.operation import TARGET, Geometry

EXTRA = "pip install 'jaxdistill[onednn]'"
LIBRARY, HEADERS = "onednn-cpu-gomp", "onednn-devel-cpu-gomp"
SOURCE = pathlib.Path(__file__).with_name("convolution.cc")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O2", "-std=c++17", "-fPIC", "-shared", "-w")


@dataclasses.dataclass(frozen=True)
class Parts:
    """The installed files of oneDNN.

    Attributes:
        library: the file of oneDNN's library.
        headers: the folder of its headers.
        version: its version.
    """

    library: pathlib.Path
    headers: pathlib.Path
    version: str


class Library:
    """A registered custom call.

    Args:
        path: the compiled library.
        target: the name to register it by.
    """

    def __init__(self, path: pathlib.Path, target: str) -> None:
        self.target = target
        self._library = ctypes.CDLL(str(path))
        self._cores = len(os.sched_getaffinity(0))
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(self._library.jaxdistill_convolve), platform="cpu")

    @functools.cache  # noqa: B019  the libraries of a process live as long as it
    def find_implementations(self, geometry: Geometry) -> str:
        """Returns the names of oneDNN's implementations of a call; "" if it has none."""
        text = ctypes.create_string_buffer(256)
        find, threads = self._library.jaxdistill_find_implementation, ctypes.c_int64(self._cores)
        failed = find(str(geometry).encode(), threads, text, ctypes.c_int64(len(text)))
        return "" if failed else text.value.decode().strip()

    def has(self, geometry: Geometry) -> bool:
        """Whether oneDNN has a call other than by its reference implementation, which is slow."""
        names = self.find_implementations(geometry)
        return bool(names) and "ref" not in names


def is_offered() -> bool:
    """Whether there are wheels of oneDNN for this machine."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def find_parts() -> Parts | None:
    """Returns the installed parts of oneDNN; None without the extra."""
    try:
        library, headers = importlib.metadata.distribution(LIBRARY), importlib.metadata.distribution(HEADERS)
    except importlib.metadata.PackageNotFoundError:
        return None
    file = _locate(library, "libdnnl.so.3")
    header = _locate(headers, "oneapi/dnnl/dnnl.hpp")
    return Parts(file, header.parents[2], library.version) if file and header else None


def _locate(package: importlib.metadata.Distribution, end: str) -> pathlib.Path | None:
    paths = [pathlib.Path(str(package.locate_file(file))) for file in package.files or () if str(file).endswith(end)]
    return next((path.resolve() for path in paths if path.exists()), None)


@functools.cache
def load() -> Library:
    """Returns the library of this process, compiled if no earlier process has.

    Raises:
        UserError: if the extra is not installed, or its library cannot be compiled or loaded.
    """
    parts = find_parts()
    if parts is None:
        raise UserError(f"oneDNN must be installed for its convolutions, got no {LIBRARY}. Run {EXTRA}")
    key = _make_key(parts)
    path = cache_folder() / f"onednn-{parts.version}-{key}" / "convolution.so"
    if not path.exists():
        _build(parts, path)
    try:
        return Library(path, f"{TARGET}_{key}")
    except OSError as error:
        raise UserError(f"{path} must be a library that this machine can load ({error}). Delete it") from error


def cache_folder() -> pathlib.Path:
    """Returns the folder of what this project compiles, the same for all runs of a user."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxdistill"


def _make_key(parts: Parts) -> str:
    """Returns a name for all that the compiled library depends on."""
    made_of = (SOURCE.read_text(), str(parts.library), parts.version, importlib.metadata.version("jaxlib"), FLAGS)
    return hashlib.sha256(repr((*made_of, platform.machine())).encode()).hexdigest()[:12]


def _build(parts: Parts, path: pathlib.Path) -> None:
    """Compiles the library; of several processes one does, and the others wait."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = (path.parent / "lock").open("w")
    except OSError as error:
        raise UserError(
            f"{path.parent} must be a folder that can be written ({error.strerror}). Set XDG_CACHE_HOME to another"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _compile(parts, path)


def _compile(parts: Parts, path: pathlib.Path) -> None:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise UserError(f"a C++ compiler must be installed for oneDNN's convolutions, got none of {list(COMPILERS)}")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = pathlib.Path(folder) / path.name
        command = [*compiler.split(), *FLAGS, str(SOURCE), f"-I{jax.ffi.include_dir()}", f"-I{parts.headers}"]
        command += [f"-L{parts.library.parent}", f"-l:{parts.library.name}", f"-Wl,-rpath,{parts.library.parent}"]
        try:
            done = subprocess.run([*command, "-o", str(part)], capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"CXX must be a C++ compiler, got {compiler!r} ({error.strerror})") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            raise UserError(
                f"{compiler} must compile oneDNN's convolutions (C++17), and it failed: {' / '.join(lines[:2])}."
                " Set CXX to another compiler, or convolutions='xla'"
            )
        part.replace(path)
