"""Signals at random moments of a run with every kind of stage: it ends soon with its status, and resumes exactly."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import runs
from jaxdistill.train import checkpoint

CONFIG = str(runs.TINY).replace("tiny.py", "every_kind.py")
LOCAL = str(pathlib.Path(__file__).parents[2] / "launch" / "local.sh")

SIGNALS = int(os.environ.get("JAXDISTILL_SIGNALS", "5"))
"""Number of signals that a run gets."""

SOON = 10
"""Seconds after a signal in which the run ends."""


def command(workdir, *flags):
    words = [sys.executable, "-m", "jaxdistill.launch", "--config", CONFIG, "--workdir", str(workdir), *flags]
    return [*words, f"--config.compilation_cache={workdir.parent / 'compiled'}"]


def finish(workdir, environment, *flags):
    """Runs to the end; returns the seconds that it took."""
    began = time.monotonic()
    ended = subprocess.run(command(workdir, *flags), env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return time.monotonic() - began


def listens(process):
    """Whether a process has a handler of SIGTERM, which Python itself has not."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) & 1 << (signal.SIGTERM - 1))


def files_of(workdir):
    """The content of caches, and of the last checkpoint of each stage."""
    shards = [*workdir.glob("*/*/*.array_record")]
    assert {shard.parent.parent.name for shard in shards} == {"cache", "forest"}
    content = {str(path.relative_to(workdir)): path.read_bytes() for path in shards}
    for folder in workdir.glob(f"*/{checkpoint.FOLDER}"):
        arrays = runs.weights(workdir, folder.parent.name, checkpoint.steps_in(folder)[-1])
        content |= {f"{folder.parent.name} {name}": np.asarray(x).tobytes() for name, x in arrays.items()}
    return content


def assert_same(workdir, whole):
    ours, theirs = files_of(workdir), files_of(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert runs.lines(workdir) == runs.lines(whole)
    assert runs.results(workdir) == runs.results(whole)


@pytest.mark.slow
def test_a_signal_at_any_moment_ends_a_run_of_every_kind_soon_and_it_resumes_to_the_same_bits(tmp_path, one_device):
    finish(tmp_path / "whole", one_device)
    longest = finish(tmp_path / "again", one_device)  # by programs that are compiled
    assert_same(tmp_path / "again", tmp_path / "whole")
    generator, number, sent = random.Random(0), 0, 0
    while sent < SIGNALS:
        workdir, chosen = tmp_path / f"run{number}", generator.choice([signal.SIGTERM, signal.SIGINT])
        process = subprocess.Popen(command(workdir), env=one_device, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not listens(process):
            time.sleep(0.005)
        try:
            process.communicate(timeout=generator.uniform(0, longest))
        except subprocess.TimeoutExpired:
            is_reported = (workdir / "report.html").exists()
            process.send_signal(chosen)
            began = time.monotonic()
            said = process.communicate(timeout=60)[1]
            took, last = time.monotonic() - began, said.strip().splitlines()[-1:]
            sent += 1
            print(f"{sent}: {chosen.name}, {process.returncode} after {took:.1f} s: {last}")
            assert took < SOON
            if process.returncode == 0 and is_reported:  # the interpreter was shutting down
                number += 1
                continue
            assert process.returncode == 128 + chosen, said
            assert "Traceback" not in said
            assert said.count("he same command") == 1
        else:
            assert process.returncode == 0
            assert_same(workdir, tmp_path / "whole")
            number += 1
    finish(workdir, one_device)
    assert_same(workdir, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "chosen"), [("one", signal.SIGINT), ("cache", signal.SIGTERM), ("distil", signal.SIGTERM)]
)
def test_a_signal_to_one_of_two_processes_ends_both(moment, chosen, tmp_path, one_device):
    """In training, in a cache, and with several steps per call in a later stage."""
    more = "--config.steps=4000", "--config.steps_per_call=4", "--config.log_every=40", "--config.checkpoint.every=400"
    more += "--config.evaluate.every=2000", "--config.cache.examples_per_shard=4", "--config.evaluate.batch=8"
    flags = [*more, "--config.data.resident=no"]
    if moment != "one":
        flags += [f"--config.stages.{name}.steps=8" for name in ("one", "two")]
    words = [LOCAL, "2", *command(tmp_path / "run", *flags)]
    job = subprocess.Popen(
        words, env=one_device, cwd=tmp_path, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
    )
    shards, log = tmp_path / "run" / "cache", tmp_path / "run" / "metrics.jsonl"
    for _ in range(2400):
        trained = log.exists() and f'"stage": "{moment}"' in log.read_text()
        if trained or (moment == "cache" and len([*shards.glob("train/*")]) > 5):
            break
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.02)
    [second] = [pid for pid in children(job.pid) if b"--process=1" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(second, chosen)
    began = time.monotonic()
    said = job.communicate(timeout=60)[0]
    assert time.monotonic() - began < SOON, said
    assert job.returncode == 143, said
    assert said.count("stopped by a signal in stage") == 1
    assert f"stopped by a signal in stage '{moment}'" in said


def children(process):
    return [int(pid) for pid in pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()]
