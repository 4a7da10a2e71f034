"""A large array is never whole on one host: each process reads the pieces that its own devices hold."""

import json
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxdistill.train import checkpoint

SIZE = (2048, 1024)
READ = """
import json, pathlib, sys
import jax
folder, port, index = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(index))
from jax.sharding import PartitionSpec
from jaxdistill.train import checkpoint, mesh as sharding, partitioning
mesh = sharding.make_mesh({"fsdp": 2})
def bytes_read():
    return int(pathlib.Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])
found = {}
for spec in (("fsdp", None), (None, "fsdp")):
    shapes = {"kernel": jax.ShapeDtypeStruct((2048, 1024), "float32")}
    wanted = sharding.structs(shapes, partitioning.shardings(mesh, shapes, [("kernel", spec)]))
    checkpoint.metadata(pathlib.Path(folder), 1)  # imports, and reads a little
    before = bytes_read()
    array = checkpoint.read(pathlib.Path(folder), 1, wanted)["kernel"]
    found[str(spec)] = [bytes_read() - before, float(array.addressable_shards[0].data.sum())]
print("found", json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/io").exists(), reason="what a process reads is told by Linux alone")
def test_each_process_reads_its_own_part(tmp_path, one_device):
    whole = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    with checkpoint.Checkpoints(tmp_path, chunk_bytes=2**18) as kept:
        kept.save(1, {"kernel": jax.device_put(whole, jax.devices()[0])}, {}, {})
    folder = tmp_path / checkpoint.FOLDER
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    words = [sys.executable, "-c", READ, str(folder), port]
    both = [subprocess.Popen([*words, str(i)], env=one_device, stdout=subprocess.PIPE, text=True) for i in (0, 1)]
    said = [process.communicate(timeout=120)[0] for process in both]
    halves = {str(("fsdp", None)): np.split(whole, 2), str((None, "fsdp")): np.split(whole, 2, 1)}
    for index, text in enumerate(said):
        found = json.loads(text.split("found ")[1].splitlines()[0])
        for spec, (size, total) in found.items():
            np.testing.assert_allclose(total, halves[spec][index].sum(dtype=np.float64), rtol=1e-3, atol=0.1)
            assert size < 0.6 * whole.nbytes
