"""Files of checkpoints: their round trip, and that nothing else imports Orbax."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

import jaxdistill
from jaxdistill.train import orbax_files
from jaxdistill.train.checkpoint import Checkpoints


def test_arrays_and_metadata_come_back(tmp_path):
    manager = orbax_files.make_manager(tmp_path, [lambda metrics: (metrics or {}).get("loss", 9.0)], "min", 1)
    for step, loss in ((1, 0.5), (2, 0.25), (3, 0.75), (4, 1.0)):
        arrays, about = {"w": jnp.full((3, 2), step)}, {"digests": {"w": step}}
        orbax_files.save(manager, step, arrays, about, metrics={"loss": loss}, chunk_bytes=2**20)
    manager.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4"]  # the best, and the latest
    assert orbax_files.read_metadata(tmp_path / "2") == {"digests": {"w": 2}}
    shape = jax.ShapeDtypeStruct((3, 2), jnp.int32, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    np.testing.assert_array_equal(orbax_files.read_arrays(tmp_path / "2", {"w": shape})["w"], np.full((3, 2), 2))


def test_a_new_run_needs_orbax_at_its_first_save_only(tmp_path):
    package = pathlib.Path(jaxdistill.__file__).parent
    importing = [path.name for path in package.rglob("*.py") if re.search(r"(import|from) orbax\b", path.read_text())]
    assert importing == ["orbax_files.py"]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == []
        checkpoints.wait()
    assert not checkpoints.folder.exists()
