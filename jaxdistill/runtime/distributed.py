"""The processes of one job: joining them, and ending each when another of them is lost."""

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from jaxdistill.errors import UserError
from jaxdistill.runtime import rendezvous

if TYPE_CHECKING:
    import jax
    import numpy as np
    from absl import flags

DISTRIBUTED = "JAX_COORDINATOR_ADDRESS"
"""JAX's own variable; if it is set, the processes join without a flag."""

SILENCE = 30
"""Seconds without a heartbeat after which a process counts as dead; JAX's default is 100."""

START_PATIENCE = 300
"""Seconds that a process waits for the others to start, JAX's own limit."""

PATIENCE = 10
"""Seconds that a failed process waits for the others to end as well."""

LOST = 75
"""The exit status if another process is lost: sysexits.h's EX_TEMPFAIL, since the same command again continues."""

SIGNS = ("gloo", "nccl", "heartbeat", "coordination", "unavailable", "connection", "socket closed", "barrier")
"""Words of the errors of a collective, a barrier or the coordination service when a process is lost."""


def join(values: Mapping[str, "flags.Flag"]) -> None:
    """Joins the other processes of a job, if flags or the environment name one.

    If some processes do not start, the others end after five minutes; if one ends before all have joined, at once.

    Args:
        values: the flags `coordinator`, `processes`, `process` and `distributed`.

    Raises:
        UserError: if the flags do not fit together, the address cannot be used, or there is no job.
    """
    import jax

    address, count, index = values["coordinator"].value, values["processes"].value, values["process"].value
    by_flags = bool(address or count or index >= 0)
    if by_flags and not (address and count > 0 and 0 <= index < count):
        raise UserError("--coordinator=HOST:PORT, --processes=N and --process=I (0 to N-1) go together")
    if by_flags:
        _check_address(address, index)
    if not (by_flags or values["distributed"].value or DISTRIBUTED in os.environ):
        return
    job = (address, count, index) if by_flags else ()
    size = f" ({count} in all, at {address})" if by_flags else ""
    message = f"waiting for the other processes{size}, which start with the same command"
    waiting = threading.Timer(SILENCE, print, (message,), {"file": sys.stderr})
    waiting.daemon = True
    if index or not by_flags:  # process 0 prints which are missing
        waiting.start()
    try:
        if by_flags:
            rendezvous.meet(address, count, index, patience=START_PATIENCE, silence=SILENCE)
        if by_flags and index:  # JAX ends a process that does not find its service with a trace of C++
            rendezvous.connect(address, START_PATIENCE).close()
        jax.distributed.initialize(*job, heartbeat_timeout_seconds=SILENCE)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the {count} processes did not come together at {address} ({error}); start the same command on every host,"
            " with the same --coordinator and --processes"
            if by_flags
            else f"--distributed found no job in the environment ({error}); give --coordinator, --processes, --process"
        ) from error
    finally:
        waiting.cancel()


def _check_address(address: str, index: int) -> None:
    # JAX crashes for a port in use, and raises an IndexError for none.
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        part = "port" if host or not port.isdigit() else "host"
        raise UserError(
            f"--coordinator must be HOST:PORT, got {address}, which names no {part}. Use any free port of process 0."
        )
    if index == 0:
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise UserError(f"port {port} of this host cannot be used ({error.strerror}); name another") from error


def is_joined() -> bool:
    """Whether this process has joined others."""
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def from_first_process(text: str) -> str:
    """Returns the text of the first process, on all of them, which call this together."""
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return text
    with jax.transfer_guard("allow"):  # which training forbids
        return _decode(multihost_utils.broadcast_one_to_all(_encode(text)))


@contextlib.contextmanager
def refuse_together() -> Iterator[None]:
    """Raises the `UserError` of a process on all of them, which come to the end of the `with` block together."""
    import jax
    from jax.experimental import multihost_utils

    refusal = ""
    try:
        yield
    except UserError as error:
        refusal = str(error)
    texts = [refusal]
    if jax.process_count() > 1:
        with jax.transfer_guard("allow"):
            texts = [_decode(content) for content in multihost_utils.process_allgather(_encode(refusal))]
    for text in filter(None, texts):
        raise UserError(text)


def _encode(text: str) -> "np.ndarray":
    """Returns a text as bytes of a fixed number, as collectives take them."""
    import numpy as np

    content = np.zeros(2**14, np.uint8)
    encoded = text.encode()[: len(content)]
    content[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    return content


def _decode(content: "np.ndarray | jax.Array") -> str:
    import numpy as np

    return np.asarray(content).tobytes().rstrip(b"\0").decode(errors="ignore")


def report_failure(error: Exception) -> int:
    """Prints the error that ended this process of a job; returns its exit status.

    A collective fails with a message of its transport if another process is lost; the printed one names the place of
    the cause and the remedy.
    """
    import jax

    failures = [cause for cause in _causes(error) if isinstance(cause, jax.errors.JaxRuntimeError)]
    lost = [cause for cause in failures if any(sign in str(cause).lower() for sign in SIGNS)]
    if not lost:
        traceback.print_exception(error)
        return 1
    print(
        f"process {jax.process_index()} of {jax.process_count()} stops: another process of the job is gone, and its own"
        f" output has the cause ({str(lost[0]).splitlines()[0][:200]}). The same command on every host continues from"
        " the last checkpoint.",
        file=sys.stderr,
    )
    return LOST


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def leave(status: int) -> None:
    """Ends this process; a failed one does not wait for others that may never come."""
    if status and is_joined():
        import jax

        if status == LOST:
            # Process 0 runs the service; the others need it to report the loss.
            time.sleep(PATIENCE if jax.process_index() == 0 else 0)
        else:
            ending = threading.Thread(target=jax.distributed.shutdown, daemon=True)
            ending.start()
            ending.join(PATIENCE)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # its reader may be gone
                stream.flush()
        os._exit(status)
    sys.exit(status)
