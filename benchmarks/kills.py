"""Kills on-policy runs at random moments by SIGKILL, resumes each, and compares the bits of the unbroken run.

    python benchmarks/kills.py --workdir runs/kills [--runs 100] [--processes 1] [--seed 0] [--write FILE.json] \\
        [--config.KEY=VALUE ...]

Each run starts with a teacher that is there (`benchmarks/configs/killed.py`), is killed once, at a moment that is
uniform over the time of its second stage, and then goes on to its end. Sampling, grading and the update are one
program, in which most of these moments lie; every fourth step is saved, and a kill during a save leaves a folder that
is not committed. Of several processes one is killed, and the others end by themselves, or are killed after a minute.
Bits are those of every array of the last checkpoint: weights, the optimizer's, and the texts that later steps read
again.
"""

import json
import multiprocessing
import os
import pathlib
import random
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import results
import timing

CONFIG = "benchmarks/configs/killed.py"
STAGE, LAST = "own", 24
OF_STAGE = f'"stage": "{STAGE}"'
CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = ("jaxdistill.launch", "jaxdistill.pipeline.run", "jaxdistill.train.orbax_files", "jaxdistill.report.write")
PATIENCE = 60
"""Seconds after which a process whose peer was killed is killed too."""


class Job:
    """The processes of one run, forked from one that has imported everything, so that they start in half the time.

    Args:
        workdir: of the run.
        processes: their number.
        flags: for the config.
    """

    def __init__(self, workdir: pathlib.Path, processes: int, flags: list[str]):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        words = ["launch", "--config", str(results.ROOT / CONFIG), "--workdir", str(workdir), *flags]
        self.members = []
        for index in range(processes):
            join = [f"--coordinator=localhost:{port}", f"--processes={processes}", f"--process={index}"]
            argv = [*words, *(join if processes > 1 else [])]
            self.members.append(CONTEXT.Process(target=launch, args=(argv,)))
            self.members[-1].start()

    def finish(self) -> None:
        """Waits for the end of all processes.

        Raises:
            RuntimeError: if one of them failed.
        """
        for member in self.members:
            member.join()
        statuses = [member.exitcode for member in self.members]
        if any(statuses):
            raise RuntimeError(f"a run that was not killed ended with {statuses}")

    def kill(self, index: int) -> bool:
        """Kills one process, and the others if they do not end; returns whether it was still running."""
        was_running = self.members[index].is_alive()
        self.members[index].kill()
        until = time.monotonic() + PATIENCE
        for member in self.members:
            member.join(max(until - time.monotonic(), 0))
            member.kill()
            member.join()
        return was_running


def launch(argv: list[str]) -> None:
    """Runs a command in this process, without output."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    from jaxdistill import launch

    launch.run(argv)


def wait_for_stage(workdir: pathlib.Path, job: Job) -> float:
    """Waits until a run has logged a step of its second stage; returns that moment."""
    log = workdir / "metrics.jsonl"
    while not (log.is_file() and OF_STAGE in log.read_text()):
        if not any(member.is_alive() for member in job.members):
            raise RuntimeError(f"{workdir}: a run ended before its second stage")
        time.sleep(0.01)
    return time.monotonic()


def describe_moment(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the last step in the log of a killed run, and whether a save had begun that is not committed."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}") and OF_STAGE in line]
    entries = (workdir / STAGE / "checkpoints").glob("*")
    return {"step": steps[-1], "saving": any(not entry.name.isdigit() for entry in entries if entry.is_dir())}


def read_arrays(workdir: pathlib.Path) -> dict[str, bytes]:
    """Reads every array of the last checkpoint."""
    import jax

    from jaxdistill.train import checkpoint, mesh

    folder = workdir / STAGE / checkpoint.FOLDER
    whole = mesh.replicated(mesh.make_mesh({"data": -1}))
    arrays = checkpoint.metadata(folder, LAST)["arrays"]
    wanted = {n: jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=whole) for n, (shape, dtype) in arrays.items()}
    return {name: np.asarray(x).tobytes() for name, x in checkpoint.read(folder, LAST, wanted).items()}


def main() -> None:
    parser = timing.make_parser(__doc__, rounds=1)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=100, help="the number of runs that are killed")
    parser.add_argument("--processes", type=int, nargs="+", default=[1], help="numbers of processes of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given, flags = parser.parse_known_args()
    root = given.workdir.resolve()
    os.environ |= {
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    CONTEXT.set_forkserver_preload([*PRELOADED])
    rows = []
    for processes in given.processes:
        for row in measure(root / str(processes), processes, given.runs, given.seed, flags=flags):
            results.write(given.write, {"": [*rows, row]})
        rows.append(row)


def measure(root: pathlib.Path, processes: int, count: int, seed: int, *, flags: list[str]) -> Iterator[dict[str, Any]]:
    """Yields the row of a number of processes after every tenth run and the last."""
    draw = random.Random(seed)
    root.mkdir(parents=True)
    Job(root / "cold", processes, flags).finish()
    start = root / "start"
    shutil.copytree(root / "cold", start, ignore=shutil.ignore_patterns(STAGE))
    lines = (start / "metrics.jsonl").read_text().splitlines(keepends=True)
    (start / "metrics.jsonl").write_text("".join(line for line in lines if OF_STAGE not in line))
    shutil.copytree(start, root / "whole")
    job = Job(root / "whole", processes, flags)  # its programs are there, as are those of the killed ones
    began = wait_for_stage(root / "whole", job)
    job.finish()
    seconds, expected = time.monotonic() - began, read_arrays(root / "whole")
    assert expected == read_arrays(root / "cold")
    killed, exact, saving, steps = 0, 0, 0, []
    while killed < count:
        workdir = root / "run"
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(start, workdir)
        job = Job(workdir, processes, flags)
        wait_for_stage(workdir, job)
        time.sleep(draw.uniform(0, seconds))
        if not job.kill(draw.randrange(processes)):
            continue  # it had ended
        moment = describe_moment(workdir)
        killed, saving = killed + 1, saving + moment["saving"]
        steps.append(moment["step"])
        Job(workdir, processes, flags).finish()
        is_equal = read_arrays(workdir) == expected
        exact += is_equal
        print(f"{processes} processes, kill {killed} at step {moment['step']}: {'equal' if is_equal else 'OTHER'} bits")
        sys.stdout.flush()
        if not is_equal:
            workdir.rename(root / f"other-{killed}")
        if killed % 10 == 0 or killed == count:
            row = {"name": f"{processes} process" + "es" * (processes > 1), "killed": killed, "equal bits": exact}
            yield row | {"killed in a save": saving, "first step": min(steps), "last step": max(steps)}


if __name__ == "__main__":
    main()
