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

from jaxdistill import config as configs
from jaxdistill.errors import UserError

PACKAGES = ("jaxdistill", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def claim(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Makes the workdir this run's: writes the resolved config, or checks that it is the one already there.

    Raises:
        UserError: where the folder cannot be written, or belongs to a run of another config (with the
            difference).
    """
    config = json.loads(json.dumps(config))
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _same(path, config)
        elif jax.process_index() == 0:
            write_json(path, config)
        if jax.process_index() == 0:
            _remember(workdir / "environment.json")
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written ({error.strerror or error}); name another with --workdir"
        ) from error


def _same(path: pathlib.Path, config: Mapping[str, Any]) -> None:
    try:
        lines = configs.differences(json.loads(path.read_text()), config)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not the config of a run ({error}); name another workdir with --workdir") from error
    if lines:
        raise UserError(
            f"{path.parent} holds a run of another config; name another workdir with --workdir, or go back to that"
            " config. What differs:\n  " + "\n  ".join(lines)
        )


def _remember(path: pathlib.Path) -> None:
    """Adds this launch to the list of launches that made the run."""
    launches = json.loads(path.read_text()) if path.exists() else []
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
    root = pathlib.Path(__file__).parents[1]

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
