"""The folder of compiled programs for later starts, and a log of compilations.

JAX finds a program by its code and shapes, the devices, their number and kind, XLA's flags and version. A CPU's program
also depends on the instructions and cores of the machine. These name the folder, so that another machine compiles its
own programs. Of several processes, the first one writes.
"""

import dataclasses
import functools
import os
import pathlib
import platform
import tempfile

import jax

from jaxdistill.errors import UserError
from jaxdistill.runtime import files

FOLDER = "compiled"
"""The folder of programs in a workdir."""


@dataclasses.dataclass(frozen=True)
class Compilation:
    """Totals of compilations.

    Attributes:
        programs: their number.
        seconds: the time of compiling, or of reading from the folder.
        cache_hits: the number of programs that were in the folder.
        saved_seconds: the time that these saved.
    """

    programs: int = 0
    seconds: float = 0.0
    cache_hits: int = 0
    saved_seconds: float = 0.0

    def __sub__(self, before: "Compilation") -> "Compilation":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(before), strict=True)
        return Compilation(*(now - then for now, then in pairs))

    def describe(self) -> str:
        """Returns the totals as a line of the log."""
        cached = f"; {self.cache_hits} from the cache" if self.cache_hits else ""
        # Reading a small program may take longer than compiling it did.
        saved = f", {self.saved_seconds:.1f} s saved" if cached and round(self.saved_seconds, 1) > 0 else ""
        return f"compilation {self.seconds:.1f} s, {self.programs} programs{cached}{saved}"


class CompilationLog:
    """Totals of this process's compilations from its creation on, and the folder that it uses.

    Attributes:
        total: so far.
        folder: that `use` has set; "" if JAX's own setting holds, or none.
    """

    def __init__(self):
        self.total, self.folder = Compilation(), ""
        jax.monitoring.register_event_listener(self._count)
        jax.monitoring.register_event_duration_secs_listener(self._add_duration)

    def _count(self, event: str, **_: object) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            self.total = dataclasses.replace(self.total, cache_hits=self.total.cache_hits + 1)

    def _add_duration(self, event: str, seconds: float, **_: object) -> None:
        total = self.total
        if event == "/jax/core/compile/backend_compile_duration":
            self.total = dataclasses.replace(total, programs=total.programs + 1, seconds=total.seconds + seconds)
        elif event == "/jax/compilation_cache/compile_time_saved_sec":
            self.total = dataclasses.replace(total, saved_seconds=total.saved_seconds + seconds)

    def use(self, setting: str, workdir: pathlib.Path) -> None:
        """Makes JAX store every program that it compiles, however short the compilation.

        Args:
            setting: "workdir" for a folder there; "off"; or another folder, which runs may share. It has no effect if
                JAX has a folder of its own (JAX_COMPILATION_CACHE_DIR).
            workdir: of the run.

        Raises:
            UserError: for a folder that cannot be written.
        """
        from jax.experimental.compilation_cache import compilation_cache

        present = jax.config.jax_compilation_cache_dir or ""
        if present and present != self.folder:
            return
        folder = "" if setting == "off" else str(locate_folder(setting, workdir))
        if folder == present:
            return
        if folder:
            _check_writable(setting, folder)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", folder or None)
        self.folder = folder


@functools.cache
def compilation_log() -> CompilationLog:
    """Returns the log of this process: JAX reports compilations to the whole process, and removes no listener."""
    return CompilationLog()


def check_setting(setting: str) -> None:
    """Raises `UserError` for a setting without a name, and for a URL."""
    if not setting.strip():
        raise UserError("compilation_cache must be 'workdir', 'off' or a folder, got ''. Name one of these.")
    files.local_path("compilation_cache", setting)


def _check_writable(setting: str, folder: str) -> None:
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"compilation_cache must be a folder that can be written, got {setting!r}: {folder} ({error.strerror})."
            " Name another folder, 'workdir' or 'off'."
        ) from error


def locate_folder(setting: str, workdir: pathlib.Path) -> pathlib.Path:
    """Returns the folder of this machine's programs."""
    root = workdir / FOLDER if setting == "workdir" else files.local_path("compilation_cache", setting)
    return root.resolve() / (_name_machine() if jax.default_backend() == "cpu" else jax.default_backend())


def _name_machine() -> str:
    """Returns a digest of what a CPU's program depends on: the instructions and the number of cores."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        features = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    except OSError:  # on other systems than Linux
        features = [platform.processor(), platform.node()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "cpu-" + files.digest(f"{features} {cores}".encode())[:12]
