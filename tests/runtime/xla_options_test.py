"""XLA's options, those for a CPU seen in the compiled program."""

import types

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.runtime import topology, xla_options
from jaxdistill.runtime.topology import Topology

IMAGES = jax.ShapeDtypeStruct((64, 16, 16, 32), jnp.float32)
KERNEL = jax.ShapeDtypeStruct((3, 3, 32, 32), jnp.float32)
LIBRARY = "__ynn_fusion"
old = pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="only up to jax 0.10 do they differ")


def convolution(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def channels(x):
    return x.sum((0, 1, 2))


def compile_text(function, *shapes):
    return xla_options.jit(function).lower(*shapes).compile().as_text()


@old
def test_convolutions_are_xlas_own_and_reductions_the_librarys():
    assert LIBRARY not in compile_text(convolution, IMAGES, KERNEL)
    assert LIBRARY in jax.jit(convolution).lower(IMAGES, KERNEL).compile().as_text()  # the default of XLA
    assert LIBRARY in compile_text(channels, IMAGES)


@old
def test_flags_of_the_user_hold(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--{xla_options.FUSION}=individual_convolution")
    assert LIBRARY in compile_text(convolution, IMAGES, KERNEL)


@old
def test_an_option_that_xla_does_not_have_is_not_given(monkeypatch):
    monkeypatch.setattr(xla_options, "OPTIONS", {"xla_cpu_no_such_option": "1"})
    xla_options._are_supported.cache_clear()
    try:
        assert LIBRARY in compile_text(convolution, IMAGES, KERNEL)
    finally:
        xla_options._are_supported.cache_clear()


@pytest.mark.parametrize(("backend", "version"), [("gpu", (0, 10, 2)), ("cpu", (0, 11, 0))])
def test_other_backends_and_versions_have_no_options(backend, version):
    assert xla_options.select_options(backend, version) is None


@pytest.mark.parametrize(("kind", "scoped"), [("TPU v5 lite", {xla_options.SCOPED: "32768"}), ("TPU v4", {})])
def test_options_of_tpus_are_by_kind_unless_a_flag_sets_them(kind, scoped, monkeypatch):
    whole = {xla_options.WINDOWED: "1000000"}
    target = Topology("a slice", "tpu", "libtpu", (types.SimpleNamespace(device_kind=kind),))
    with topology.compile_for(target):
        monkeypatch.delenv("LIBTPU_INIT_ARGS", raising=False)
        assert xla_options.select_options("tpu", (0, 10, 2)) == whole | scoped
        monkeypatch.setenv("LIBTPU_INIT_ARGS", f"--{xla_options.WINDOWED}=4")
        assert xla_options.select_options("tpu", (0, 10, 2)) == scoped
        monkeypatch.setenv("LIBTPU_INIT_ARGS", f"--{xla_options.SCOPED}=16384")
        assert xla_options.select_options("tpu", (0, 10, 2)) == whole


def test_options_that_models_declare_are_for_the_kind_they_were_found_on(monkeypatch):
    monkeypatch.delenv("LIBTPU_INIT_ARGS", raising=False)
    declared = {xla_options.SCOPED: "24576", "xla_tpu_dot_dot_fusion": "false"}
    chosen = {}
    try:
        xla_options.use(declared)
        for kind in (xla_options.V5E, "TPU v4"):
            target = Topology("a slice", "tpu", "libtpu", (types.SimpleNamespace(device_kind=kind),))
            with topology.compile_for(target):
                chosen[kind] = xla_options.select_options("tpu", (0, 10, 2))
    finally:
        xla_options.use({})
    whole = {xla_options.WINDOWED: "1000000"}
    assert chosen == {xla_options.V5E: whole | declared, "TPU v4": whole}


def test_products_for_absent_gpus_are_cublas_own():
    with topology.compile_for(Topology("h100:1", "gpu", "jax-cuda12-plugin", ())):
        assert xla_options.select_options("gpu", (0, 10, 2)) == {"xla_gpu_enable_triton_gemm": False}


def test_arguments_of_jit_are_passed_on():
    double = xla_options.jit(lambda x: x * 2, donate_argnums=0)
    x = jnp.ones((4, 4))
    assert double(x).sum() == 32
    assert x.is_deleted()
