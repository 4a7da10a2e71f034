"""Failures of the machine: each gets one message with its place and a remedy, and a bug of ours gets none."""

import errno

import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime import failures

ORBAX = 'RESOURCE_EXHAUSTED: Error writing local file "{path}/x": Failed to write: No space left on device [code=28]'


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/disk/a"), ("/disk/a", "space left", "Free some space")),
        (OSError(errno.EFBIG, "File too large", "/disk/a"), ("/disk/a", "File too large", "raise the quota")),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ("the workdir", "Disk quota exceeded")),
        (PermissionError(errno.EACCES, "Permission denied", "/disk/a"), ("/disk/a", "chmod -R u+rwX")),
        (OSError(errno.EROFS, "Read-only file system", "/disk/a"), ("/disk/a", "Read-only file system")),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/disk/a"), ("/disk/a", "File name too long")),
        (MemoryError("cannot allocate 9 TiB"), ("memory", "cannot allocate 9 TiB", "Reduce batch")),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), ("memory", "Reduce batch")),
        (RuntimeError("Unable to initialize backend 'gpux'"), ("JAX_PLATFORMS", "gpux", "JAX_PLATFORMS=cpu")),
        (ExceptionGroup("tasks", [OSError(errno.ENOSPC, "No space left on device", "/disk/a")]), ("/disk/a",)),
    ],
)
def test_a_failure_has_its_place_and_a_remedy(error, parts):
    message = str(failures.describe(error))
    assert all(part in message for part in parts), message


def test_a_command_that_saves_nothing_is_repeated():
    error = OSError(errno.ENOSPC, "No space left on device", "/disk/a")
    assert str(failures.describe(error, failures.REPEAT)).endswith("raise the quota. Then repeat the command.")


def test_a_full_disk_that_a_library_reports_is_found_behind_its_exception(tmp_path):
    error = ValueError("commit failed")
    error.__cause__ = ValueError(ORBAX.format(path=tmp_path))
    assert f"{tmp_path}/x must be on a disk with space left" in str(failures.describe(error))


def test_an_error_of_the_user_behind_another_is_the_message():
    error = RuntimeError("while it ended")
    error.__context__ = UserError("batch must be 1 or more, got 0. Raise it")
    assert failures.describe(error) is error.__context__


def test_a_bug_is_no_failure_of_the_machine():
    assert failures.describe(KeyError("student")) is None
    assert failures.describe(FileNotFoundError(errno.ENOENT, "No such file or directory")) is None
