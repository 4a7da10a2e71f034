import ctypes
import subprocess
import sys

import pytest

CODE = """
import os, resource, sys
from jaxdistill.runtime import allocator as memory
assert memory.keep_freed() == (sys.argv[1] == "keep")
import numpy as np
for turn in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffers = [np.ones(1 << 23, np.uint8) for _ in range(4)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, environment):
    words = [sys.executable, "-c", CODE, how]
    return int(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_freed_memory_is_kept_unless_the_user_sets_the_allocator(one_device):
    assert faults("keep", one_device) < 100  # of 8,192 pages
    assert faults("leave", one_device | {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}) > 1000
