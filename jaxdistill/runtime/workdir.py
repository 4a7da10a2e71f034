"""The workdir of a run: its owner, and a record of every launch with versions, commit and devices."""

import datetime
import json
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import jax

from jaxdistill.errors import UserError
from jaxdistill.runtime import files

CONFIG = "config.json"
ENVIRONMENT = "environment.json"

PACKAGES = ("jaxdistill", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
"""Packages whose versions are recorded."""

RUN_FILES = (
    CONFIG,
    "metrics.jsonl",
    "results.json",
    "lanes.json",
    "evaluation.json",
    "predictions.npz",
    "report.html",
)
"""Files of a run; a folder that has some of them and no `config.json` belongs to something else."""

Config = Mapping[str, Any]


def claim_workdir(workdir: pathlib.Path, config: Config, differences: Callable[[Config, Config], list[str]]) -> None:
    """Makes the workdir this run's: writes the resolved config, or checks the existing one against it.

    Args:
        workdir: the folder; it is made if it is missing.
        config: as resolved.
        differences: `(existing, config) -> lines` that name what makes them different runs. Keys in which a run
            may differ from its first launch are absent from the lines, and their last values are written.

    Raises:
        UserError: if the folder cannot be written, belongs to a run of another config (with the differences), or
            holds files that a run would overwrite and no config.
    """
    config = json.loads(json.dumps(config))
    path = workdir / CONFIG
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_same_run(path, differences(files.read_json(path, dict), config))
        elif jax.process_index() == 0:
            _check_unclaimed(workdir)
        if jax.process_index() == 0:
            files.write_json(path, config)
            record_launch(workdir / ENVIRONMENT)
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written ({error.strerror or error}); name another with --workdir"
        ) from error


def _check_unclaimed(workdir: pathlib.Path) -> None:
    existing = [name for name in RUN_FILES if (workdir / name).exists()]
    existing += [
        str(path.relative_to(workdir)) for kind in ("*/done.json", "*/checkpoints") for path in workdir.glob(kind)
    ]
    if existing:
        raise UserError(
            f"{workdir} holds {existing[:4]} and no {CONFIG} of the run that wrote them; name another workdir with"
            " --workdir, so that nothing is overwritten"
        )


def _check_same_run(path: pathlib.Path, lines: list[str]) -> None:
    if lines:
        raise UserError(
            f"{path.parent} holds a run of another config; name another workdir with --workdir, or go back to that"
            " config. The differences:\n  " + "\n  ".join(lines)
        )


def record_launch(path: pathlib.Path) -> None:
    """Appends this launch to a JSON list of the launches that made the run."""
    launches = files.read_json(path, list) if path.exists() else []
    devices = jax.devices()
    launches.append(
        {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "commit": read_commit(),
            "devices": {"kind": devices[0].device_kind, "number": len(devices), "backend": jax.default_backend()},
            "processes": jax.process_count(),
            "packages": {name: _read_version(name) for name in PACKAGES},
        }
    )
    files.write_json(path, launches)


def _read_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # code on the path of modules, and not installed
        return "not installed"


def read_commit() -> str:
    """Returns the commit of the code, with `+` if files differ from it; "unknown" outside a checkout."""
    root = pathlib.Path(__file__).parents[2]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
