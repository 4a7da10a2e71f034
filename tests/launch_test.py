"""The command: its workdir, its statuses, and what ends it early."""

import errno
import os
import resource
import signal
import socket
import subprocess
import sys

import fsspec
import numpy as np
import pytest

import runs
from jaxdistill import launch
from jaxdistill.errors import UserError
from jaxdistill.library import Results
from jaxdistill.pipeline import run as pipeline
from jaxdistill.pipeline.load import load
from jaxdistill.runtime import files, remote
from runs import LONG, command, launched, stop_at, until


def test_a_workdir_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert launched(tmp_path / "file" / "run") == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["https://host/run", "abfs://bucket/run"])
def test_a_workdir_that_is_a_url(url, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launched(url) == 2
    assert f"--workdir must be a path of this machine, got the URL {url!r}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []  # a path of it would be a folder "gs:"


@pytest.mark.slow
def test_a_run_on_a_store_goes_on_elsewhere_and_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(remote.FOLDER, str(tmp_path / "one"))
    stores, url = fsspec.filesystem("memory").store, "memory://bucket/tiny"
    stores.clear()
    assert launched(url, stop=stop_at(4)) in (130, 143)  # in the first stage
    assert "teacher/done.json" not in {name.removeprefix("/bucket/tiny/") for name in stores}
    monkeypatch.setenv(remote.FOLDER, str(tmp_path / "two"))
    assert launched(url) == 0
    assert "stage teacher: resumes at step" in capsys.readouterr().out
    assert launched(tmp_path / "local") == 0
    monkeypatch.setenv(remote.FOLDER, str(tmp_path / "three"))
    assert launched(url) == 0
    assert capsys.readouterr().out.count("done before") == 3
    assert Results.read(url).records == Results.read(tmp_path / "local").records
    assert load(url, "student")(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 10)
    taught = f"--config.networks.teacher.weights={url}/teacher"
    assert launched(tmp_path / "other", taught, "--stages=distil") == 0
    stores.clear()


def test_a_workdir_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "run", lambda stages, workdir, **_: workdir.mkdir())
    for folder in ("~/one", f"file://{tmp_path}/two"):
        assert launched(folder) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.slow
def test_stages_alone_come_with_those_that_they_read():
    def select(names):
        return [*launch._select(runs.parsed(), names)]

    assert select("") == ["teacher", "distil", "evaluate"]
    assert select("distil") == ["teacher", "distil"]
    assert select("teacher") == ["teacher"]
    with pytest.raises(UserError, match="--stages must be a stage of the config, got 'distill'. Did you mean 'distil'"):
        select("distill")


def test_a_platform_that_this_machine_does_not_have(tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "nosuch"}
    ended = subprocess.run(command(tmp_path / "run"), env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: JAX_PLATFORMS must name a platform of this machine")
    assert "Traceback" not in ended.stderr


def test_ctrl_c_during_imports_ends_with_one_line(tmp_path):
    code = "import signal, sys\nfrom jaxdistill import launch\n"
    code += "class Interrupt:\n    def find_spec(self, name, *_):\n"
    code += "        if name == 'jax': signal.raise_signal(signal.SIGINT)\n"
    code += "sys.meta_path.insert(0, Interrupt())\nassert 'jax' not in sys.modules\nlaunch.run()"
    words = command(tmp_path / "run")[3:]
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, f"{launch.INTERRUPTED}\n")


@pytest.mark.parametrize("words", [[], ["--help"], ["--config", runs.TINY], ["--workdir", "x"]])
def test_usage(words, capsys):
    assert launch.main(["launch", *words]) == (0 if words == ["--help"] else 2)
    said = capsys.readouterr()
    assert ("--config FILE.py" in said.out) == (words in ([], ["--help"]))
    assert ("no --workdir" in said.err) == ("--config" in words)
    assert ("no --config" in said.err) == ("--workdir" in words)


def test_a_run_ends_with_a_list_of_the_files_it_has(tmp_path, capsys):
    for name in ("report.html", "predictions.npz"):
        (tmp_path / name).touch()
    launch._list_files(tmp_path)
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [f"{tmp_path / name}" for name in ("report.html", "predictions.npz")]


def test_plan(tmp_path, capsys):
    flags = "--plan", "--config.networks.student.widths=(6,)", "--config.data.augment=()"
    assert launched(tmp_path / "run", *flags) == 0
    said = capsys.readouterr().out
    for part in (
        "stage teacher (train)",
        "12 steps of 64 (0.7131 epochs)",
        "20 labels of each class",
        "student: trained, 460 parameters",
        "teacher: frozen from stage:teacher, 1,810 parameters",
        "hidden1 (6,)",
        "kd: KD student <- teacher",
        "a step: 348,672 FLOPs of matrix products and convolutions",  # of the average of weights, nobody asks
        "compiled step",
        "stage evaluate (evaluate)",
    ):
        assert part in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_disk_that_takes_no_more_stops_the_run_with_one_message_and_the_next_launch_goes_on(tmp_path, one_device):
    def limit():  # the checkpoint's larger files do not fit
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))

    words = command(tmp_path / "run", "--config.compilation_cache=off")
    ended = subprocess.run(words, env=one_device, capture_output=True, text=True, preexec_fn=limit)
    assert ended.returncode == 2
    assert ended.stderr.count("error: ") == 1
    assert "must be on a disk with space left, got 'File too large'" in ended.stderr
    assert "Traceback" not in ended.stderr
    again = subprocess.run(words, env=one_device, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_the_second_launch_on_a_workdir_ends_at_once_and_a_killed_one_does_not_block(tmp_path, one_device):
    first = subprocess.Popen(command(tmp_path / "run", *LONG), env=one_device, stderr=subprocess.DEVNULL)
    until(tmp_path / "run", 50, first, stage="teacher")
    second = subprocess.run(command(tmp_path / "run", *LONG), env=one_device, capture_output=True, text=True)
    assert second.returncode == 2
    assert f"process {first.pid} on host {socket.gethostname()} has it since" in second.stderr
    assert first.poll() is None
    first.kill()
    first.wait()
    third = subprocess.run(command(tmp_path / "run", *LONG), env=one_device, capture_output=True, text=True)
    assert third.returncode == 0, third.stderr


def test_a_full_disk_at_the_start(tmp_path, capsys, monkeypatch):
    def fail(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_bytes", fail)
    assert launched(tmp_path / "run") == 2
    message = f"error: {tmp_path}/run/config.json must be on a disk with space left, got 'No space left on device'"
    assert capsys.readouterr().err.startswith(message)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_bits(tmp_path, one_device):
    subprocess.run(command(tmp_path / "whole", *LONG), env=one_device, check=True, capture_output=True)
    for step in (10, 130, 260, 390):
        process = subprocess.Popen(command(tmp_path / "run", *LONG), env=one_device, stderr=subprocess.DEVNULL)
        until(tmp_path / "run", step, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(tmp_path / "run", *LONG), env=one_device, check=True, capture_output=True)
    for stage in ("teacher", "distil"):
        ours, theirs = (runs.weights(tmp_path / name, stage, 400) for name in ("run", "whole"))
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert runs.lines(tmp_path / "run") == runs.lines(tmp_path / "whole")
    assert runs.results(tmp_path / "run") == runs.results(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_prints_how_to_continue(tmp_path, one_device, number):
    process = subprocess.Popen(command(tmp_path, *LONG), env=one_device, stderr=subprocess.PIPE, text=True)
    until(tmp_path, 50, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "is saved in" in said
    assert "Traceback" not in said
    again = subprocess.run(command(tmp_path, *LONG), env=one_device, capture_output=True, text=True)
    assert again.returncode == 0
    assert "stage distil: resumes at step" in again.stdout
