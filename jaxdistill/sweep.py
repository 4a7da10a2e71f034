"""jaxdistill sweep CONFIG --workdir DIR --values KEY=V,V,... [--values ...] [--grid] [--config.KEY=VALUE ...]

    --values    the values of one key of the config, a run for each: terms.kd.method=kd,dkd. Several keys change
                together, the first values in the first run, or with --grid in all combinations
    --workdir   the folder of the sweep: runs are DIR/000, DIR/001, ...; the same command continues an interrupted one
    --list      print the runs and the stages that they share, and run nothing
    --shared    make the stages alone that all runs share, such as the teacher and its cache, in DIR/shared
    --only I    run number I alone; `task` for that of SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX

Stages that are equal in all runs, with all that they read, are made once. All other flags are those of
`jaxdistill run`, and are given to each run. The end is the comparison of the runs, DIR/comparison. A run that fails
does not stop the others; the exit status is then 1.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdistill.compare import command as comparison
from jaxdistill.config import load, references, registry
from jaxdistill.config.parse import plain
from jaxdistill.config.schema import StageSettings
from jaxdistill.errors import UserError
from jaxdistill.runtime import files
from jaxdistill.runtime.arguments import Arguments, with_help

SHARED, RECORD = "shared", "sweep.json"
TASKS = ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX")
"""Variables with the number of a task: of an array job of SLURM, and of an indexed job of Kubernetes."""

OPTIONS = ("--workdir", "--values", "--grid", "--list", "--shared", "--only")
"""Flags of the sweep; all others are those of its runs, a word each."""

REFUSED = ("--plan", "--stages", "--config")
"""Flags of `jaxdistill run` that a sweep cannot pass on."""

ENDING = (75, 128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit statuses of a run that end the sweep: another process is gone, or a signal stopped it; what it has is saved."""

COPIED = ("inputs.json", "metrics.jsonl")
"""Files of the shared run that each run begins with."""

Settings = Mapping[str, StageSettings]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs of one config that differ in the values of some keys.

    Attributes:
        config: the file or name of the config.
        workdir: the folder of all runs.
        points: the values of each run by key, as text.
        flags: of each run.
    """

    config: str
    workdir: pathlib.Path
    points: Sequence[Mapping[str, str]]
    flags: Sequence[str]

    def words(self, number: int) -> list[str]:
        """Returns the flags of a run of this number, without its workdir."""
        return [*self.flags, *(f"--config.{key}={value}" for key, value in self.points[number].items())]

    def folder(self, number: int) -> pathlib.Path:
        """Returns the workdir of a run."""
        return self.workdir / f"{number:03}"

    def describe(self, number: int) -> str:
        """Returns a line on a run."""
        return f"{self.folder(number)}  {', '.join(f'{key}={value}' for key, value in self.points[number].items())}"

    def load(self, number: int) -> Settings:
        """Returns the settings of the stages of a run; a mistake names the run."""
        overrides = [word for word in self.words(number) if word.startswith("--config.")]
        try:
            return load.load(self.config, overrides)
        except UserError as error:
            raise UserError(f"{self.describe(number)}: {error}") from error


@with_help(__doc__)
def main(words: Sequence[str]) -> int:
    """Runs a sweep; returns the exit status."""
    sweep, given = parse(words)
    settings = [sweep.load(number) for number in range(len(sweep.points))]
    shared = find_shared(settings)
    if given.list:
        print("\n".join(sweep.describe(number) for number in range(len(settings))))
        print(f"shared stages: {', '.join(shared) or 'none'}")
        return 0
    _claim(sweep)
    if given.only is not None:
        number = _read_task(given.only, len(settings))
        _check_shared(sweep, shared)
        return _run(sweep, number, settings[number], shared)
    status = _run_shared(sweep, shared) if shared else 0
    if status or given.shared:
        return status
    statuses = []
    for number, stages in enumerate(settings):
        statuses.append(_run(sweep, number, stages, shared))
        if statuses[-1] in ENDING:  # the same command continues
            return statuses[-1]
    _compare(sweep, [number for number, code in enumerate(statuses) if not code])
    return int(any(statuses))


def parse(words: Sequence[str]) -> tuple[Sweep, argparse.Namespace]:
    """Reads the command line.

    Raises:
        UserError: for a missing key or value, a key that is set twice, keys of different numbers of values without
            `--grid`, and flags that a sweep cannot pass on.
    """
    parser = Arguments("jaxdistill sweep")
    parser.add_argument("config")
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--values", action="append", required=True)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--only")
    flags = [word for word in words if word.startswith("--") and word.partition("=")[0] not in OPTIONS]
    _check_flags(flags)
    given = parser.parse_args([word for word in words if word not in flags])
    fixed = [flag.partition("=")[0].removeprefix("--config.") for flag in flags]
    columns: dict[str, list[str]] = {}
    for text in given.values:
        key, equals, values = text.partition("=")
        if not (key and equals and values):
            raise UserError(f"--values must be KEY=V,V,..., got {text!r}. Write --values terms.kd.method=kd,dkd")
        key, row = key.removeprefix("--config."), split_values(values)
        if "" in row:
            raise UserError(f"--values must have no empty value, got {text!r}. Remove the comma that is too many")
        if key in (*columns, *fixed):
            raise UserError(f"--values must be the only place of a key, got {key} twice. Keep one")
        columns[key] = row
    lengths = {key: len(values) for key, values in columns.items()}
    if len({*lengths.values()}) > 1 and not given.grid:
        raise UserError(f"--values must have equal numbers of values, got {lengths}. Add --grid for all combinations")
    rows = itertools.product(*columns.values()) if given.grid else zip(*columns.values(), strict=True)
    points = [dict(zip(columns, row, strict=True)) for row in rows]
    return Sweep(given.config, files.local_path("--workdir", given.workdir), points, flags), given


def _check_flags(flags: Sequence[str]) -> None:
    for flag in flags:
        name, equals, _ = flag.partition("=")
        if name in REFUSED:
            raise UserError(f"{name} must be absent in a sweep, got {flag!r}. Use --list, --shared or --only instead")
        if name.startswith("--config.") and not equals:
            raise UserError(f"{flag} must have its value in the same word, got none. Write {flag}=VALUE")


def split_values(text: str) -> list[str]:
    """Splits values at commas outside of brackets: `(64,),(64, 64)` are two."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def find_shared(settings: Sequence[Settings]) -> list[str]:
    """Returns the stages that are equal in all runs, with all that they read, and write no results of the run."""
    first, *rest = settings
    shared: list[str] = []
    for name, stage in first.items():
        is_equal = all(name in stages and plain(stages[name]) == plain(stage) for stages in rest)
        needed = references.stages_read(stage.networks)
        if is_equal and {*needed} <= {*shared} and not registry.find("kind", stage.kind).writes_results:
            shared.append(name)
    return shared if rest else []


def _claim(sweep: Sweep) -> None:
    """Writes the record of a sweep, or checks that the folder is of the same one."""
    record = {"config": sweep.config, "points": [dict(point) for point in sweep.points], "flags": [*sweep.flags]}
    path = sweep.workdir / RECORD
    if path.is_file() and (existing := files.read_json(path, dict)) != json.loads(json.dumps(record)):
        different = sorted(key for key in record if existing.get(key) != record[key])
        raise UserError(
            f"--workdir must be the folder of this sweep, got {str(sweep.workdir)!r}, whose {different} are others."
            " Repeat its command, or name another folder"
        )
    sweep.workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(path, record)


def _read_task(text: str, count: int) -> int:
    names = [name for name in TASKS if name in os.environ]
    if text == "task" and not names:
        raise UserError(f"--only must be a number outside of an array job, got 'task' without {' or '.join(TASKS)}")
    number = os.environ[names[0]] if text == "task" else text
    if not re.fullmatch(r"\d+", number) or int(number) >= count:
        raise UserError(f"--only must be the number of a run, from 0 to {count - 1}, got {number!r}")
    return int(number)


def _check_shared(sweep: Sweep, shared: Sequence[str]) -> None:
    missing = [name for name in shared if not (sweep.workdir / SHARED / name / "done.json").is_file()]
    if missing:
        raise UserError(
            f"the shared stages must be finished before --only, got {missing} of {sweep.workdir / SHARED} that are not."
            " Run the command with --shared first"
        )


def _run_shared(sweep: Sweep, shared: Sequence[str]) -> int:
    words = [*sweep.words(0), f"--stages={','.join(shared)}"]
    return _launch(sweep.config, sweep.workdir / SHARED, words)


def _run(sweep: Sweep, number: int, stages: Settings, shared: Sequence[str]) -> int:
    """Runs one point, or continues it; returns the exit status."""
    folder = sweep.folder(number)
    print(f"sweep: run {number + 1} of {len(sweep.points)}: {sweep.describe(number)}", flush=True)
    if shared and not (folder.is_dir() and any(folder.iterdir())):
        _begin(folder, load.to_json(stages), sweep.workdir / SHARED, shared)
    return _launch(sweep.config, folder, sweep.words(number))


def _begin(folder: pathlib.Path, config: Mapping[str, Any], source: pathlib.Path, shared: Sequence[str]) -> None:
    """Makes the workdir of a run in which the shared stages are finished; several processes may begin at once."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    files.write_json(part / "config.json", config)
    for name in COPIED:
        if (source / name).is_file():
            (part / name).write_bytes((source / name).read_bytes())
    for name in shared:
        (part / name).symlink_to(pathlib.Path("..") / source.name / name, target_is_directory=True)
    try:
        part.rename(folder)
    except OSError:  # another process was first
        for path in part.iterdir():
            path.unlink()
        part.rmdir()


def _launch(config: str, workdir: pathlib.Path, words: Sequence[str]) -> int:
    """Runs `jaxdistill.launch` in a process of its own, to which signals are passed on; returns its exit status."""
    line = [sys.executable, "-m", "jaxdistill.launch", f"--config={config}", f"--workdir={workdir}", *words]
    process = subprocess.Popen(line)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the process too
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _compare(sweep: Sweep, numbers: Sequence[int]) -> None:
    runs = [str(sweep.folder(n)) for n in numbers if (sweep.folder(n) / "results.json").is_file()]
    if len(runs) > 1:
        comparison.main([*runs, "--out", str(sweep.workdir / "comparison")])
