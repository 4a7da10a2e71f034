"""Topologies of devices that are absent."""

import importlib.util
import types

import jax
import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime import topology
from jaxdistill.runtime.topology import Topology
from jaxdistill.train import mesh


def test_programs_are_for_the_devices_of_jax_unless_a_topology_is_set():
    device = types.SimpleNamespace(device_kind="TPU v5 lite")
    assert (topology.devices(), topology.backend()) == (jax.devices(), "cpu")
    with topology.compile_for(Topology("v5e:1x1", "tpu", "libtpu", (device,))):
        assert (topology.devices(), topology.backend()) == ((device,), "tpu")
        with pytest.raises(UserError, match="does not fit 1 devices"):
            mesh.make_mesh({"data": 2})
    assert topology.backend() == "cpu"


@pytest.mark.parametrize("name", ["v9:2x2", "v5", "tpu", ""])
def test_a_name_of_no_device_is_refused_with_the_list(name, monkeypatch):
    monkeypatch.setattr(topology, "_is_installed", lambda module: False)
    with pytest.raises(
        UserError, match=r"--topology must be a slice of TPUs or a number of GPUs, got .*'h100:8'.*'v5e:4x4'"
    ):
        topology.find(name)


@pytest.mark.parametrize(("name", "extra"), [("v5e:4x4", "tpu"), ("h100:8", "cuda-compile")])
def test_a_missing_compiler_is_named_with_its_extra(name, extra, monkeypatch):
    monkeypatch.setattr(topology, "_is_installed", lambda module: False)
    with pytest.raises(UserError, match=rf"pip install 'jaxdistill\[{extra}\]'"):
        topology.find(name)


@pytest.mark.parametrize("name", ["h100", "h100:0", "h100:4x4", "b200:12"])
def test_a_number_of_gpus_that_hosts_do_not_have_is_refused(name):
    with pytest.raises(UserError, match="GPUs are one to 8, or a multiple of 8 on several hosts"):
        topology.find(name)


@pytest.mark.parametrize(("name", "chips"), [("v5e:1x1", 1), ("v5p:4x4x4", 64), ("v5p:16x20x28", 8960), ("h100:8", 8)])
def test_chips_are_counted_by_the_name(name, chips):
    assert topology.count_chips(name) == chips


@pytest.mark.parametrize("gpu", topology.GPUS.values(), ids=lambda gpu: gpu.name)
def test_a_description_has_the_numbers_of_its_gpu(gpu):
    text = gpu.describe()
    assert f"memory_bandwidth: {gpu.bandwidth} " in text
    assert f"cuda_compute_capability {{ major: {gpu.capability[0]} minor: {gpu.capability[1]} }}" in text


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="without libtpu (pip install 'jaxdistill[tpu]')")
@pytest.mark.parametrize(
    ("name", "devices", "kind"),
    [("v5e:1x1", 1, "TPU v5 lite"), ("v5p:4x4x4", 64, "TPU v5"), ("v6e:16x16", 256, "TPU v6 lite")],
)
def test_a_slice_has_its_chips(name, devices, kind):
    found = topology.find(name)
    assert (len(found.devices), found.devices[0].device_kind, found.backend) == (devices, kind, "tpu")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="without libtpu (pip install 'jaxdistill[tpu]')")
@pytest.mark.parametrize("name", ["v5e:3x7", "v9:2x2", "v5e", "v5e:"])
def test_a_slice_that_jax_cannot_name_is_refused_with_the_list(name):
    with pytest.raises(UserError, match=r"--topology must be a slice of TPUs .* got .*There are \[.*'v5e:4x4'"):
        topology.find(name)
