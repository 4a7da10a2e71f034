"""Several processes with folders of their own and one store: the run that one process makes, and goes on with."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import cached_runs
import runs
import shared_store
from jaxdistill.runtime import remote

LOCAL = str(pathlib.Path(__file__).parents[2] / "launch" / "local.sh")
URL, RUN = "memory://bucket/run", pathlib.Path("store", "bucket", "run")
FLAGS = "--config.data.resident=no", "--config.log_every=5"


def words(config, *flags):
    return [sys.executable, shared_store.__file__, "--config", config, "--workdir", URL, *FLAGS, *flags]


def machine(environment, tmp_path, name):
    """Returns the environment of processes on a machine, by its name, that all see the store."""
    (tmp_path / "store").mkdir(exist_ok=True)
    folders = {"STORE": str(tmp_path / "store"), remote.FOLDER: str(tmp_path / name)}
    path = os.pathsep.join([str(pathlib.Path(shared_store.__file__).parent), os.environ.get("PYTHONPATH", "")])
    return environment | folders | {"PYTHONPATH": path}


def start(count, environment, tmp_path, *command):
    """Starts the processes; each has a machine of its own, but for the first two, which share one."""
    return subprocess.Popen(
        [LOCAL, str(count), *command], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )


def run(count, environment, tmp_path, *command):
    process = start(count, environment, tmp_path, *command)
    said = process.communicate(timeout=240)[0]
    others = [path.read_text() for path in tmp_path.glob("local-*.log")] if count > 1 else []
    return process.returncode, said, others


def check_equal(ours, theirs):
    for left, right in zip(ours, theirs, strict=True):
        assert left.keys() == right.keys()
        for key, value in left.items():
            if isinstance(value, float) and key not in ("data_wait", "examples_per_second", "model_flops_per_second"):
                np.testing.assert_allclose(
                    right[key], value, rtol=1e-4, err_msg=f"{left['stage']} {left['step']} {key}"
                )


SHARDED = "--config.mesh.data=1", "--config.mesh.fsdp=2", "--config.sharding=fsdp:64"


@pytest.mark.slow
@pytest.mark.parametrize("then", [1, 2])
def test_a_run_of_two_processes_goes_on_elsewhere(then, tmp_path, one_device):
    """Its weights are sharded over both; the first alone has them as a whole, and writes them."""
    long = "--config.steps=60", "--config.evaluate.every=20"
    alone = runs.command(tmp_path / "alone", *FLAGS, *long)
    assert subprocess.run(alone, env=one_device, capture_output=True).returncode == 0
    here, elsewhere = (machine(one_device, tmp_path, name) for name in ("here", "elsewhere"))
    process = start(2, here, tmp_path, *words(runs.TINY, *long, *SHARDED))
    runs.until(tmp_path / "here" / "runs" / "memory" / "bucket" / "run", 30, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    process.stdout.close()
    shutil.rmtree(tmp_path / "here")
    assert not (tmp_path / RUN / "evaluate").exists()
    flags = SHARDED if then == 2 else ()
    status, said, others = run(then, elsewhere, tmp_path, *words(runs.TINY, *long, *flags))
    assert status == 0, others
    assert "stage teacher: done before" in said
    assert "stage distil: resumes at step" in said
    check_equal(runs.lines(tmp_path / "alone"), runs.lines(tmp_path / RUN))
    for ours, theirs in zip(runs.results(tmp_path / RUN), runs.results(tmp_path / "alone"), strict=True):
        assert ours.pop("network") == theirs.pop("network")
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)
    assert not (tmp_path / RUN / ".owner").exists()


def read_caches(folder):
    """The files of the caches of a run, by stage."""
    headers = sorted(folder.glob("*/cache.json"))
    return {path.parent.name: sorted(x.name for x in path.parent.rglob("*")) for path in headers}


ROUTED = str(pathlib.Path(__file__).parents[1] / "configs" / "routed.py")


@pytest.mark.slow
@pytest.mark.parametrize("config", [f"{cached_runs.CACHED}:short", ROUTED], ids=["shards", "shared_arrays"])
def test_caches_are_written_by_the_first_process_and_read_by_all(config, tmp_path, one_device):
    rows = [{"q": f"{n}+1=", "a": str(n + 1), "kind": ("even", "odd")[n % 2]} for n in range(60)]
    (tmp_path / "sums.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    routed = (f"--config.data.path={tmp_path / 'sums.jsonl'}", "--stages=read") if config == ROUTED else ()
    flags = [*FLAGS, *routed]
    alone = [sys.executable, "-m", "jaxdistill.launch", "--config", config, "--workdir", str(tmp_path / "alone")]
    assert subprocess.run([*alone, *flags], env=one_device, capture_output=True).returncode == 0
    status, said, others = run(2, machine(one_device, tmp_path, "here"), tmp_path, *words(config, *routed))
    assert status == 0, said + others[0]
    check_equal(runs.lines(tmp_path / "alone"), runs.lines(tmp_path / RUN))
    assert read_caches(tmp_path / RUN) == read_caches(tmp_path / "alone") != {}


@pytest.mark.slow
def test_what_the_first_process_refuses_ends_all_of_them(tmp_path, one_device):
    """Here another launch has the workdir, which another host renews."""
    environment = machine(one_device, tmp_path, "here")
    (tmp_path / RUN).mkdir(parents=True)
    owner = {"process": 1, "host": "elsewhere", "start": "", "time": "noon", "beat": 0}
    ended = subprocess.Popen([LOCAL, "2", *words(runs.TINY)], env=environment, cwd=tmp_path, stdout=subprocess.PIPE)
    while ended.poll() is None:
        owner["beat"] += 1
        (tmp_path / RUN / ".owner").write_text(json.dumps(owner))
        time.sleep(0.2)
    assert ended.returncode == 2
    for text in (ended.communicate()[0].decode(), (tmp_path / "local-1.log").read_text()):
        assert "one launch at a time, got 'memory://bucket/run', which process 1 on host elsewhere" in text
