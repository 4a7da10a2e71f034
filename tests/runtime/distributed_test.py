"""Several processes are one run: the same losses, one checkpoint for any number, and no hang when one is gone."""

import pathlib
import signal
import socket
import subprocess
import time

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

import runs
from jaxdistill import launch
from jaxdistill.errors import UserError
from jaxdistill.runtime import distributed, garbage, rendezvous
from runs import command, until

LOCAL = str(pathlib.Path(__file__).parents[2] / "launch" / "local.sh")
STREAMED = "--config.data.resident=no"
LONG = "--config.steps=100", "--config.evaluate.every=20", "--config.log_every=5"


def ran(workdir, count, environment, *flags):
    """Runs the tiny config to its end in `count` processes."""
    words = [LOCAL, str(count), *command(workdir, STREAMED, *flags)]
    folder = pathlib.Path(workdir).parent  # where local.sh writes the output of the others
    return subprocess.run(words, env=environment, cwd=folder, check=True, capture_output=True, text=True).stdout


def close(ours, theirs):
    for one, two in zip(ours, theirs, strict=True):
        assert one.keys() == two.keys()
        for key, value in one.items():
            if isinstance(value, float):
                np.testing.assert_allclose(two[key], value, rtol=1e-4, err_msg=f"{one['stage']} {one['step']} {key}")


@pytest.mark.slow
def test_one_two_and_four_processes_are_the_same_run(tmp_path, one_device):
    """Real processes over `jax.distributed`: the same losses, and one set of files."""
    for count in (1, 2, 4):
        said = ran(tmp_path / str(count), count, one_device, "--config.steps=8")
        close(runs.lines(tmp_path / "1"), runs.lines(tmp_path / str(count)))
        assert "accuracy" in said
        others = [path.read_text() for path in tmp_path.glob("local-*.log")]
        assert len(others) == count - 1
        assert not any("accuracy" in other for other in others)


MIXED = "--config.sharding=('tensor', 'fsdp:64')"


def meshes(data, fsdp, tensor):
    return [f"--config.mesh.{name}={size}" for name, size in (("data", data), ("fsdp", fsdp), ("tensor", tensor))]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, one_device):
    """The run of one process."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    ran(workdir, 1, one_device, "--config.steps=8")
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "sharding"),
    [
        ((1, 1, 2), "--config.sharding=tensor"),
        ((1, 2, 1), "--config.sharding=fsdp:64"),
        ((2, 1, 2), "--config.sharding=tensor"),
        ((1, 2, 2), MIXED),
        ((2, 2, 1), "--config.sharding=fsdp:64"),
    ],
    ids=["tensor", "fsdp", "data_tensor", "fsdp_tensor", "data_fsdp"],
)
def test_any_axis_of_the_mesh_may_go_over_processes(sizes, sharding, alone, tmp_path, one_device):
    """A process reads the rows of its devices, in training of several steps per call and in evaluations."""
    count = int(np.prod(sizes))
    ran(tmp_path / "run", count, one_device, "--config.steps=8", "--config.steps_per_call=2", *meshes(*sizes), sharding)
    close(runs.lines(alone), runs.lines(tmp_path / "run"))


def together(workdir, count, environment, *flags):
    """Starts the processes without anything that watches over them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    join = [STREAMED, *flags, f"--coordinator=localhost:{port}", f"--processes={count}"]
    words = [command(workdir, *join, f"--process={index}") for index in range(count)]
    return [subprocess.Popen(each, env=environment, stderr=subprocess.PIPE, text=True) for each in words]


@pytest.mark.slow
@pytest.mark.parametrize("then", [1, 4])
def test_a_checkpoint_of_two_processes_goes_on_with_another_number(then, tmp_path, one_device):
    ran(tmp_path / "whole", 1, one_device, *LONG)
    two = together(tmp_path / "run", 2, one_device, *LONG)
    until(tmp_path / "run", 30, two[0])
    two[1].send_signal(signal.SIGTERM)  # as when one of the machines is preempted
    said = [process.communicate(timeout=120)[1] for process in two]
    assert [process.returncode for process in two] == [143, 143], said
    assert all("is saved in" in each for each in said)
    assert "stage distil: resumes at step" in ran(tmp_path / "run", then, one_device, *LONG)
    close(runs.lines(tmp_path / "whole"), runs.lines(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
@pytest.mark.parametrize("index", [0, 1])
def test_when_one_process_is_gone_the_other_reports_it_and_ends(index, number, tmp_path, one_device):
    """A collective fails at once when a peer is killed, and never when it is silent: then the heartbeat ends it."""
    both = together(tmp_path / "run", 2, one_device, *LONG)
    try:
        until(tmp_path / "run", 30, both[0])
        both[index].send_signal(number)
        began = time.monotonic()
        said = both[1 - index].communicate(timeout=120)[1]
        took = time.monotonic() - began
        print(f"process {1 - index} ended after {took:.1f} s with {both[1 - index].returncode}")
        assert took < 60
        assert both[1 - index].returncode in (distributed.LOST, -signal.SIGABRT)
        assert "another process of the job is gone" in said or "another task died" in said
        # Orbax's own thread may print one for a save that was under way; none goes through the command.
        assert "jaxdistill/launch.py" not in said
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert "done before" in ran(tmp_path / "run", 2, one_device, *LONG)


@pytest.fixture
def joined(monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)


def test_what_a_process_refuses_is_raised_by_all(monkeypatch):
    with distributed.refuse_together():
        pass
    with pytest.raises(UserError, match="^too full$"), distributed.refuse_together():
        raise UserError("too full")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: np.stack([np.zeros_like(own), other, own]))
    other = distributed._encode("größer")
    with pytest.raises(UserError, match="^größer$"), distributed.refuse_together():
        raise UserError("too full")
    with pytest.raises(UserError, match="^größer$"), distributed.refuse_together():
        pass
    other = distributed._encode("")
    with distributed.refuse_together(), jax.transfer_guard("disallow"):
        pass


def test_a_lost_process_is_reported_in_words(joined, monkeypatch, capsys):
    def fails(*_):
        try:
            raise jax.errors.JaxRuntimeError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer\nmore")
        except jax.errors.JaxRuntimeError as error:
            raise ValueError("cannot save") from error

    monkeypatch.setattr(launch, "_main", fails)
    assert launch.main(["launch", "--config", runs.TINY]) == distributed.LOST
    said = capsys.readouterr().err
    assert "process 0 of 1 stops: another process of the job is gone" in said
    assert "The same command on every host continues" in said
    assert "Traceback" not in said


def test_another_error_in_one_of_several_processes_keeps_its_traceback(joined, monkeypatch, capsys):
    monkeypatch.setattr(launch, "_main", lambda *_: 1 / 0)
    assert launch.main(["launch", "--config", runs.TINY]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_process_that_cannot_even_print_its_error_leaves_too(joined, monkeypatch):
    """Its terminal is gone, for example; a traceback's usual way out waits for all processes."""

    def fails(_):
        raise BrokenPipeError

    left, paused = [], []
    monkeypatch.setattr(launch, "main", fails)
    monkeypatch.setattr(distributed, "leave", left.append)
    monkeypatch.setattr(garbage, "pause", lambda: paused.append(True))
    launch.run()
    assert (left, paused) == ([1], [True])


def test_without_others_an_error_is_raised(monkeypatch):
    monkeypatch.setattr(launch, "_main", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        launch.main(["launch", "--config", runs.TINY])


def test_leaving_does_not_wait_for_others_that_do_not_come(joined, monkeypatch):
    """At exit JAX waits for every process, up to five minutes."""
    left = []
    monkeypatch.setattr(distributed, "PATIENCE", 0.1)
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: time.sleep(5))
    monkeypatch.setattr(distributed.os, "_exit", left.append)
    began = time.monotonic()
    with pytest.raises(SystemExit):  # this one is never reached outside of a test
        distributed.leave(3)
    assert left == [3]
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes=2"], "--coordinator=HOST:PORT, --processes=N and --process=I (0 to N-1) go together"),
        (["--coordinator=a:1", "--processes=2", "--process=2"], "go together"),
        (
            ["--coordinator=a", "--processes=2", "--process=1"],
            "--coordinator must be HOST:PORT, got a, which names no port",
        ),
        (["--coordinator=a:1", "--processes=2", "--process=1"], "the 2 processes did not come together at a:1"),
        (["--coordinator=:9", "--processes=2", "--process=1"], "got :9, which names no host"),
        (["--distributed"], "--distributed found no job in the environment"),
    ],
)
def test_joining_nobody(flags, message, tmp_path, capsys, monkeypatch):
    def fails(*_, heartbeat_timeout_seconds):
        assert heartbeat_timeout_seconds == distributed.SILENCE
        raise RuntimeError("DEADLINE_EXCEEDED")

    monkeypatch.setattr(rendezvous, "meet", lambda *_, **__: None)
    monkeypatch.setattr(rendezvous, "connect", lambda *_: socket.socket())
    monkeypatch.setattr(jax.distributed, "initialize", fails)
    assert runs.launched(tmp_path / "run", *flags) == 2
    assert message in capsys.readouterr().err


def test_waiting_for_the_others_is_printed(tmp_path, capsys, monkeypatch):
    def fails(*_, heartbeat_timeout_seconds):
        time.sleep(0.5)
        raise RuntimeError("enough")

    monkeypatch.setattr(distributed, "SILENCE", 0.05)
    monkeypatch.setattr(rendezvous, "meet", lambda *_, **__: None)
    monkeypatch.setattr(rendezvous, "connect", lambda *_: socket.socket())
    monkeypatch.setattr(jax.distributed, "initialize", fails)
    runs.launched(tmp_path / "run", "--coordinator=a:1", "--processes=2", "--process=1")
    assert "waiting for the other processes (2 in all, at a:1)" in capsys.readouterr().err


def test_a_coordinator_that_is_not_there(tmp_path, capsys, monkeypatch):
    with socket.create_server(("localhost", 0)) as free:
        address = f"localhost:{free.getsockname()[1]}"
        rendezvous.connect(address, 1).close()
    monkeypatch.setattr(distributed, "START_PATIENCE", 0.1)
    assert runs.launched(tmp_path / "run", f"--coordinator={address}", "--processes=2", "--process=1") == 2
    message = f"error: --coordinator must be the address of process 0, got {address}, where nothing has answered for"
    assert capsys.readouterr().err.startswith(message)


def test_a_port_that_is_taken(tmp_path, capsys):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        flags = f"--coordinator=localhost:{port}", "--processes=2", "--process=0"
        assert runs.launched(tmp_path / "run", *flags) == 2
    assert f"port {port} of this host cannot be used" in capsys.readouterr().err
