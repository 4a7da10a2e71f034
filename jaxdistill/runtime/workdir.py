"""The workdir of a run: its owner, and a record of every launch with versions, commit and devices."""

import contextlib
import datetime
import json
import pathlib
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any

import jax

from jaxdistill.errors import UserError
from jaxdistill.runtime import checkout, distributed, failures, files, ownership

CONFIG = "config.json"
"""The resolved config of a run."""

ENVIRONMENT = "environment.json"

PACKAGES = ("jaxdistill", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
"""Packages whose versions are recorded."""

RUN_FILES = (
    CONFIG,
    "inputs.json",
    "metrics.jsonl",
    "results.json",
    "lanes.json",
    "evaluation.json",
    "predictions.npz",
    "report.html",
)
"""Files of a run; a folder that has some of them and no `config.json` belongs to something else."""

REMOVE_LAUNCHES = "Remove it, and the same command goes on, without its list of earlier launches."

Config = Mapping[str, Any]


@contextlib.contextmanager
def claim_workdir(
    workdir: pathlib.Path, config: Config, differences: Callable[[Config, Config], list[str]]
) -> Iterator[None]:
    """Makes the workdir this launch's in the `with` block, and this run's: writes the resolved config, or checks it.

    Of several processes, the first one owns the workdir, and all of them raise its error.

    Args:
        workdir: the folder; it is made if it is missing.
        config: as resolved.
        differences: `(existing, config) -> lines` that name what makes them different runs. Keys in which a run
            may differ from its first launch are absent from the lines, and their last values are written.

    Raises:
        UserError: if the folder cannot be written, another launch writes into it, it belongs to a run of another config
            (with the differences), or holds files that a run would overwrite and no config.
    """
    with contextlib.ExitStack() as stack:
        refusal = ""
        if jax.process_index() == 0:
            try:
                _claim(workdir, json.loads(json.dumps(config)), differences, stack)
            except UserError as error:
                refusal = str(error)
        refusal = distributed.from_first_process(refusal)
        if refusal:
            raise UserError(refusal)
        yield


def _claim(
    workdir: pathlib.Path,
    config: Config,
    differences: Callable[[Config, Config], list[str]],
    stack: contextlib.ExitStack,
) -> None:
    path = workdir / CONFIG
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        stack.enter_context(ownership.own_workdir(workdir))
        if path.exists():
            _check_same_run(path, differences(files.read_json(path, dict), config))
        else:
            _check_unclaimed(workdir)
        files.write_json(path, config)
        record_launch(workdir / ENVIRONMENT)
    except OSError as error:
        if error.errno in failures.FULL:
            raise
        raise UserError(
            f"the workdir {workdir} cannot be written ({error.strerror or error}); name another with --workdir"
        ) from error


def is_run(folder: pathlib.Path) -> bool:
    """Whether a folder has the config of a run, and not that of an export, which has no stages.

    Raises:
        UserError: for a config that cannot be read.
    """
    return (folder / CONFIG).is_file() and "stages" in files.read_json(folder / CONFIG, dict)


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
    launches = files.read_json(path, list, REMOVE_LAUNCHES) if path.exists() else []
    devices = jax.devices()
    launches.append(
        {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            **_read_code(path.parent),
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


def _read_code(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the commit of this package and, if the launch was started in another checkout, that one's.

    An installed package has no commit, although its folder may lie in the checkout of the user's project.
    """
    package, project = pathlib.Path(__file__).resolve().parents[2], checkout.find_root(pathlib.Path.cwd())
    code: dict[str, Any] = {"commit": "unknown"}
    if checkout.find_root(package) == package and (state := checkout.read_checkout(package)):
        code["commit"] = state.title
        if state.title != state.commit:
            code["changes"] = state.record("jaxdistill", workdir)
    if project and project != package and (state := checkout.read_checkout(project)):
        code["project"] = state.record("project", workdir)
    return code


def check_links(workdir: pathlib.Path, stages: Iterable[str]) -> None:
    """Raises `UserError` for a stage whose folder is a link to nothing: it would be trained again, and not be saved."""
    for name in stages:
        folder = workdir / name
        if folder.is_symlink() and not folder.exists():
            raise UserError(
                f"{folder} must lead to the finished stage that runs share, got a link to {str(folder.readlink())!r},"
                " where nothing is. Restore that folder, or remove the link to run the stage again"
            )
