"""Commands whose reader stops early."""

import subprocess
import sys

import pytest

from jaxdistill.runtime.pipes import CLOSED


@pytest.mark.parametrize("flush", [True, False])
def test_a_closed_pipe_ends_a_command_without_a_trace(flush):
    command = (
        "import sys\nfrom jaxdistill.runtime.pipes import ending_at_closed_pipe\ndef main():\n    sys.stdin.read()\n"
        f"    print('first', flush={flush})\n    return 3\nsys.exit(ending_at_closed_pipe(main))"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    started.stdout.close()
    assert started.communicate(b"go")[1] == b""
    assert started.returncode == CLOSED
