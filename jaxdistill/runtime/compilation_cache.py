"""Compiled programs: kept in a folder for the next start, counted, and their time told.

A program is found again by all that it was made from: its code and shapes, the devices, their number and kind, XLA's
flags and version. What a CPU's program takes for granted besides, the instructions and cores of the machine, names the
folder that it is kept in, so that another machine compiles its own. Of several processes, the first one writes.
"""

import dataclasses
import hashlib
import os
import pathlib
import platform
import tempfile

import jax

from jaxdistill.errors import UserError

FOLDER = "compiled"
"""Where programs are kept in the workdir."""

_OURS: list[str] = []
"""The folder that this process was last told to use by `keep`."""


def check(setting: str) -> None:
    """Raises `UserError` for a setting that names nothing."""
    if not setting.strip():
        raise UserError("compilation_cache='' names no folder; say 'workdir', 'off', or a folder")


def keep(setting: str, workdir: pathlib.Path) -> None:
    """Makes JAX keep every program that it compiles, however quickly it did.

    Args:
        setting: "workdir" for a folder there; "off"; or another folder, which runs may share. Where JAX itself was
            told one (JAX_COMPILATION_CACHE_DIR), that one holds, by JAX's own settings.

    Raises:
        UserError: for a folder that cannot be written.
    """
    from jax.experimental.compilation_cache import compilation_cache

    told = jax.config.jax_compilation_cache_dir
    if told and [told] != _OURS:
        return
    folder = "" if setting == "off" else str(folder_of(setting, workdir))
    if folder == (told or ""):
        return
    if folder:
        try:
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(
                f"compilation_cache={setting!r}: {folder} cannot be written ({error.strerror}); name another folder,"
                " 'workdir' or 'off'"
            ) from error
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", folder or None)
    _OURS[:] = [folder] if folder else []


def folder_of(setting: str, workdir: pathlib.Path) -> pathlib.Path:
    """The folder of this machine's programs."""
    root = workdir / FOLDER if setting == "workdir" else pathlib.Path(setting).expanduser()
    return root.resolve() / (machine() if jax.default_backend() == "cpu" else jax.default_backend())


def machine() -> str:
    """Names what a CPU's program relies on: the instructions there are, and the number of cores."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        able = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    except OSError:  # there is none but on Linux
        able = [platform.processor(), platform.node()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "cpu-" + hashlib.sha256(f"{able} {cores}".encode()).hexdigest()[:12]


@dataclasses.dataclass
class Compiled:
    """What was compiled: `programs` in `seconds`, of which `found` in the folder, which saved `saved` seconds."""

    programs: int = 0
    seconds: float = 0.0
    found: int = 0
    saved: float = 0.0

    def since(self, before: "Compiled") -> "Compiled":
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(before)
        return Compiled(*(now - then for now, then in zip(mine, theirs, strict=True)))

    def told(self) -> str:
        """Tells it in words, for the log."""
        cached = f"; {self.found} from the cache, {max(self.saved, 0):.1f} s saved" if self.found else ""
        return f"compilation {self.seconds:.1f} s, {self.programs} programs{cached}"


_SEEN = Compiled()
_LISTENING: list[bool] = []


def so_far() -> Compiled:
    """What this process has compiled since it was first asked."""
    if not _LISTENING:
        _LISTENING.append(True)
        jax.monitoring.register_event_listener(_happened)
        jax.monitoring.register_event_duration_secs_listener(_took)
    return dataclasses.replace(_SEEN)


def _happened(event: str, **_) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _SEEN.found += 1


def _took(event: str, seconds: float, **_) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _SEEN.programs += 1
        _SEEN.seconds += seconds
    elif event == "/jax/compilation_cache/compile_time_saved_sec":
        _SEEN.saved += seconds
