"""The workdir of a run: whose it is, and where, by what and from which commit it was made."""

import datetime
import json
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax

from jaxdistill.config import load as configs
from jaxdistill.errors import UserError

PACKAGES = ("jaxdistill", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


OURS = (
    "config.json",
    "metrics.jsonl",
    "results.json",
    "lanes.json",
    "evaluation.json",
    "predictions.npz",
    "report.html",
)
"""Files of a run; a folder that has some and no `config.json` is somebody else's."""


def claim(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Makes the workdir this run's: writes the resolved config, or checks that it is the one already there,
    but for keys that say where and how fast it goes (`defaults.FREE`), whose last values are written.

    Raises:
        UserError: where the folder cannot be written, belongs to a run of another config (with the
            difference), or holds files that a run would write and no config that says whose they are.
    """
    config = json.loads(json.dumps(config))
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _same(path, config)
        elif jax.process_index() == 0:
            _is_free(workdir)
        if jax.process_index() == 0:
            write_json(path, config)
            _remember(workdir / "environment.json")
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written ({error.strerror or error}); name another with --workdir"
        ) from error


def _is_free(workdir: pathlib.Path) -> None:
    found = [name for name in OURS if (workdir / name).exists()]
    found += [
        str(path.relative_to(workdir)) for kind in ("*/done.json", "*/checkpoints") for path in workdir.glob(kind)
    ]
    if found:
        raise UserError(
            f"{workdir} holds {found[:4]} and no config.json that says which run they are of; name another workdir"
            " with --workdir, so that nothing is overwritten"
        )


def _same(path: pathlib.Path, config: Mapping[str, Any]) -> None:
    lines = configs.differences(read_json(path, {}), config)
    if lines:
        raise UserError(
            f"{path.parent} holds a run of another config; name another workdir with --workdir, or go back to that"
            " config. What differs:\n  " + "\n  ".join(lines)
        )


def read_json(path: pathlib.Path, like: Any) -> Any:
    """Reads a file of a run.

    Raises:
        UserError: where it cannot be read, or does not hold a value of the kind of `like`.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); name another workdir with --workdir") from error
    if not isinstance(value, type(like)):
        raise UserError(f"{path} is not a file of a run; name another workdir with --workdir")
    return value


def _remember(path: pathlib.Path) -> None:
    """Adds this launch to the list of launches that made the run."""
    launches = read_json(path, []) if path.exists() else []
    devices = jax.devices()
    launches.append(
        {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "commit": commit(),
            "devices": {"kind": devices[0].device_kind, "number": len(devices), "backend": jax.default_backend()},
            "processes": jax.process_count(),
            "packages": {name: metadata.version(name) for name in PACKAGES},
        }
    )
    write_json(path, launches)


def commit() -> str:
    """The commit that the code is at, with `+` where files differ from it; "unknown" outside a checkout."""
    root = pathlib.Path(__file__).parents[2]

    def git(*words):
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a file at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    part.replace(path)
