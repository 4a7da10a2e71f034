"""Failures of the machine under a run as errors that a user can fix: disks, permissions, memory, devices."""

import errno
import os
import re
from collections.abc import Iterator

from jaxdistill.errors import UserError

FULL = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EFBIG: "File too large",
}
"""Errors of a disk that takes no more bytes, with the texts that libraries of C++ have for them."""

REFUSED = {
    errno.EACCES: "Permission denied",
    errno.EPERM: "Operation not permitted",
    errno.EROFS: "Read-only file system",
}
"""Errors of files that this user may not read or write."""

SAME_COMMAND = "The same command then goes on from what is saved."
REPEAT = "Then repeat the command."


def describe(error: BaseException, then: str = SAME_COMMAND) -> UserError | None:
    """Returns the error that names the failure of the machine behind an exception; `None` for other exceptions.

    Args:
        error: the exception.
        then: the sentence about the command after the remedy.
    """
    for cause in causes(error):
        if isinstance(cause, UserError):
            return cause
        if full := _match(cause, FULL):
            return UserError(
                f"{_place(cause)} must be on a disk with space left, got {full!r}. Free some space or raise the quota."
                f" {then}"
            )
        if refused := _match(cause, REFUSED):
            return UserError(
                f"{_place(cause)} must be readable and writable for this user, got {refused!r}. Change its"
                f" permissions (chmod -R u+rwX). {then}"
            )
        if isinstance(cause, OSError) and cause.filename:
            return UserError(
                f"{cause.filename} must be a file or folder that can be read and written, got"
                f" {cause.strerror!r}. Mend this. {then}"
            )
        if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in str(cause):
            return UserError(
                f"the run must fit the memory of the machine, got {_first_line(cause)!r}. Reduce batch, evaluate.batch"
                " or data.size, set accumulate, or add devices (python -m jaxdistill.launch --plan has the sizes)"
            )
        if "Unable to initialize backend" in str(cause) or "JAX_PLATFORMS" in str(cause):
            return UserError(
                f"JAX_PLATFORMS must name a platform of this machine, got {_first_line(cause)!r}. Unset it, or write"
                " JAX_PLATFORMS=cpu"
            )
    return None


def is_of_access(error: BaseException) -> bool:
    """Whether a file could not be read for want of space or permission, so that its content may be whole."""
    return any(_match(cause, FULL | REFUSED) for cause in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an exception, those of a group, and those that led to it."""
    while error is not None:
        yield error
        for member in getattr(error, "exceptions", ()):
            yield from causes(member)
        error = error.__cause__ or error.__context__


def _match(cause: BaseException, errors: dict[int, str]) -> str:
    if isinstance(cause, OSError):
        return errors.get(cause.errno or 0, "")
    text = str(cause)
    return next((message for message in errors.values() if message in text), "")


def _place(cause: BaseException) -> str:
    """Returns the path that an exception names, or a noun for it."""
    if isinstance(cause, OSError) and cause.filename:
        return str(cause.filename)
    paths = re.findall(r"(?<![\w:])/[^\s\"'\]),;]+", str(cause))
    return next((path for path in paths if os.path.exists(os.path.dirname(path))), "the workdir")


def _first_line(cause: BaseException) -> str:
    return (str(cause).splitlines() or [type(cause).__name__])[0][:200] or type(cause).__name__
