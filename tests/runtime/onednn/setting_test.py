"""The setting `convolutions`: what it takes, what it refuses, and what a log reads."""

import signal

import jax
import jax.numpy as jnp
import pytest

import runs
from jaxdistill.errors import UserError
from jaxdistill.runtime import xla_options
from jaxdistill.runtime.onednn import library, setting
from onednn_calls import EveryGeometry, count_calls, draw, gradients

needs_onednn = pytest.mark.skipif(library.find_parts() is None, reason=f"needs {library.EXTRA}")


@pytest.fixture(autouse=True)
def no_library_remains():
    yield
    setting.use("xla")


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(library, "find_parts", lambda: library.Parts(None, None, "1.0"))
    monkeypatch.setattr(library, "load", EveryGeometry)


@pytest.fixture
def missing(monkeypatch):
    monkeypatch.setattr(library, "find_parts", lambda: None)
    library.load.cache_clear()


def count():
    return count_calls(xla_options.jit(gradients(1, "SAME")), *draw((2, 4, 4, 3), (3, 3, 3, 4)))


@pytest.mark.parametrize(("choice", "calls"), [("auto", 3), ("onednn", 3), ("xla", 0)])
def test_programs_take_the_setting(choice, calls, installed):
    assert setting.use(choice) == ""
    assert count() == calls


def test_programs_have_xlas_convolutions_until_a_stage_sets_others(installed):
    assert count() == 0


def test_without_the_extra_auto_takes_xlas(missing):
    assert setting.use("auto") == ""
    assert count() == 0


def test_auto_takes_xlas_where_the_library_does_not_compile_and_logs_why(installed, monkeypatch):
    def fail():
        raise UserError("c++ must compile")

    monkeypatch.setattr(library, "load", fail)
    assert setting.use("auto") == "convolutions by XLA: c++ must compile"
    assert count() == 0


def test_accelerators_have_their_own(installed, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert setting.use("auto") == ""
    assert setting.current() is None
    with pytest.raises(UserError, match="convolutions must be 'auto' or 'xla' on gpu, got 'onednn'"):
        setting.check("onednn")


def test_a_required_library_that_is_missing_ends_a_launch_with_one_message(missing, tmp_path, capsys):
    assert runs.launched(tmp_path, "--config.convolutions=onednn") == 2
    assert "error: oneDNN must be installed" in capsys.readouterr().err


def test_the_gain_is_named_only_without_the_extra(missing, monkeypatch):
    monkeypatch.setattr(library, "is_offered", lambda: True)
    assert library.EXTRA in setting.describe_gain()
    monkeypatch.setattr(library, "is_offered", lambda: False)
    assert setting.describe_gain() == ""


def test_the_gain_is_not_named_with_the_extra(installed):
    assert setting.describe_gain() == ""


def test_values_are_those_of_xla_where_a_call_is_left(installed):
    x, w = draw((2, 4, 4, 3), (3, 3, 3, 4), dtype=jnp.float16)
    setting.use("auto")
    run = xla_options.jit(gradients(1, "SAME"))
    assert all((a == b).all() for a, b in zip(run(x, w), jax.jit(gradients(1, "SAME"))(x, w), strict=True))


@needs_onednn
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["", "lanes"])
def test_a_run_on_several_devices_resumes_to_the_bit(mode, tmp_path):
    flags = ["--config.convolutions=onednn", "--config.networks.student.model=cifar_resnet", "--config.steps=6"]
    flags += ["--config.networks.student.depth=8", "--config.batch=32", "--config.checkpoint.every=2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = f"{runs.TINY.replace('tiny.py', 'single.py')}:{mode}"
    assert runs.launched(whole, *flags, config=config) == 0
    assert runs.launched(parts, *flags, config=config, stop=runs.stop_at(5)) == 128 + signal.SIGTERM
    assert runs.launched(parts, *flags, config=config) == 0
    assert runs.lines(parts) == runs.lines(whole)
    assert isinstance(setting.current(), library.Library)
