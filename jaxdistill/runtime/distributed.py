"""The processes of one job: how they join, and how each ends when another of them is gone."""

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError

DISTRIBUTED = "JAX_COORDINATOR_ADDRESS"
"""JAX's own variable; where it is set, the processes join without a flag."""

SILENCE = 30
"""Seconds without a heartbeat after which a process counts as dead; JAX's default is 100."""

PATIENCE = 10
"""Seconds that a process which failed waits for the others to end as well."""

LOST = 75
"""The exit status when another process is gone: sysexits.h's EX_TEMPFAIL, for the same command again goes on."""

SIGNS = ("gloo", "nccl", "heartbeat", "coordination", "unavailable", "connection", "socket closed", "barrier")
"""Words of the errors that a collective, a barrier or the coordination service ends with when a process is gone."""


def join(values: Mapping[str, Any]) -> None:
    """Joins the other processes of a job, where flags or the environment tell of any.

    Args:
        values: the flags `coordinator`, `processes`, `process` and `distributed`.

    Raises:
        UserError: where they do not fit together, tell of no job, or of an address that cannot be used. Where not
            all processes come, JAX itself ends those that did, after five minutes.
    """
    import jax

    address, count, index = values["coordinator"].value, values["processes"].value, values["process"].value
    told = bool(address or count or index >= 0)
    if told and not (address and count > 0 and 0 <= index < count):
        raise UserError("--coordinator=HOST:PORT, --processes=N and --process=I (0 to N-1) go together")
    if told:
        _check_address(address, index)
    if not (told or values["distributed"].value or DISTRIBUTED in os.environ):
        return
    given = (address, count, index) if told else ()
    where = f" ({count} in all, at {address})" if told else ""
    what = f"waiting for the other processes{where}, which start with the same command"
    waiting = threading.Timer(SILENCE, print, (what,), {"file": sys.stderr})
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(*given, heartbeat_timeout_seconds=SILENCE)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the {count} processes did not come together at {address} ({error}); start the same command on every host,"
            " with the same --coordinator and --processes"
            if told
            else f"--distributed found no job in the environment ({error}); give --coordinator, --processes, --process"
        ) from error
    finally:
        waiting.cancel()


def _check_address(address: str, index: int) -> None:
    """JAX ends in a crash for a port that is taken, and in an IndexError for none."""
    port = address.rpartition(":")[2]
    if not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator={address} names no port; write HOST:PORT, with any port that is free there")
    if index == 0:
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise UserError(f"port {port} of this host cannot be used ({error.strerror}); name another") from error


def joined() -> bool:
    """Whether this process has joined others."""
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def tell(error: Exception) -> int:
    """Tells what ended this process of a job; returns its exit status.

    A collective that fails because another process is gone says so in the words of its transport; what the
    user needs is where to look and what to do.
    """
    import jax

    said = [one for one in _causes(error) if isinstance(one, jax.errors.JaxRuntimeError)]
    lost = [one for one in said if any(sign in str(one).lower() for sign in SIGNS)]
    if not lost:
        traceback.print_exception(error)
        return 1
    print(
        f"process {jax.process_index()} of {jax.process_count()} stops: another process of the job is gone, its own"
        f" output says why ({str(lost[0]).splitlines()[0][:200]}). The same command on every host goes on from the"
        " last checkpoint.",
        file=sys.stderr,
    )
    return LOST


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def leave(status: int) -> None:
    """Ends this process; one that failed does not wait for others that may never come."""
    if status and joined():
        import jax

        if status == LOST:
            # Process 0 holds the service: while it lives, the others can tell what they have seen.
            time.sleep(PATIENCE if jax.process_index() == 0 else 0)
        else:
            ending = threading.Thread(target=jax.distributed.shutdown, daemon=True)
            ending.start()
            ending.join(PATIENCE)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # who was to read it may be gone
                stream.flush()
        os._exit(status)
    sys.exit(status)
