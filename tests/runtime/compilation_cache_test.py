"""Programs are compiled once: in a stage before its second evaluation, and of a run that is started again never."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import runs
from jaxdistill.errors import UserError
from jaxdistill.runtime import compilation_cache as compilation
from jaxdistill.train import loop
from jaxdistill.train.checkpoint import Checkpoints

SINGLE = runs.TINY.replace("tiny.py", "single.py")


@pytest.mark.parametrize(
    ("mode", "flags", "devices"),
    [
        ("", [], 8),
        ("", [], 1),
        ("", ["--config.steps_per_call=3"], 8),
        ("", ["--config.data.resident=no"], 8),
        ("lanes", [], 8),
    ],
    ids=["eight devices", "one", "several steps a dispatch", "streamed", "lanes"],
)
def test_nothing_is_compiled_after_the_first_of_each(mode, flags, devices, tmp_path, monkeypatch):
    """A step, an evaluation, a checkpoint: the first of each compiles, those after it find all there is."""
    all_devices, save, compile_steps, programs, donated = jax.devices(), Checkpoints.save, loop.compile_steps, [], []

    def saved(*given):
        result = save(*given)
        programs.append(compilation.compilation_log().total.programs)
        return result

    def watched(*given, **options):
        made = compile_steps(*given, **options)

        def call(state, *rest):
            result = made(state, *rest)
            donated.append(all(x.is_deleted() for x in jax.tree.leaves(state)))
            return result

        call.trace = made.trace
        return call

    monkeypatch.setattr(Checkpoints, "save", saved)
    monkeypatch.setattr(loop, "compile_steps", watched)
    monkeypatch.setattr(jax, "devices", lambda *_: all_devices[:devices])
    compilation.compilation_log()
    assert runs.launched(tmp_path, *flags, config=f"{SINGLE}:{mode}") == 0
    assert len(programs) == 3
    assert programs[0] > 0
    assert programs[1:] == [programs[0]] * 2
    # The room of a state is its successor's, but where it is still being saved.
    assert donated.count(False) <= 2


def test_a_compilation_is_counted_and_described():
    log = compilation.compilation_log()
    before = log.total
    jax.jit(lambda x: x * 3.25)(jnp.ones(7))
    difference = log.total - before
    assert difference.programs >= 1
    assert difference.seconds > 0
    text = compilation.Compilation(5, 12.34, 3, 8.76).describe()
    assert text == "compilation 12.3 s, 5 programs; 3 from the cache, 8.8 s saved"
    for saved in (0.04, -0.8):  # reading took as long as compiling
        assert (
            compilation.Compilation(5, 12.34, 3, saved).describe() == "compilation 12.3 s, 5 programs; 3 from the cache"
        )
    assert compilation.Compilation(5, 12.34).describe() == "compilation 12.3 s, 5 programs"


def test_another_machine_has_a_folder_of_its_own(tmp_path, monkeypatch):
    """A CPU's program may use instructions that another has not."""
    own = compilation.locate_folder("workdir", tmp_path)
    assert own.parent == tmp_path / "compiled"
    assert compilation.locate_folder(str(tmp_path / "shared"), tmp_path).parent == tmp_path / "shared"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(77), raising=False)
    assert compilation.locate_folder("workdir", tmp_path) != own


def test_jaxs_own_setting_holds(tmp_path):
    """As here, where the tests share one."""
    told = jax.config.jax_compilation_cache_dir
    compilation.compilation_log().use("workdir", tmp_path)
    assert jax.config.jax_compilation_cache_dir == told
    assert [*tmp_path.iterdir()] == []


@pytest.fixture
def unset(monkeypatch):
    told = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", told)
    compilation.compilation_log().folder = ""
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()


def test_a_folder_can_be_named_changed_and_switched_off(unset, tmp_path):
    for setting in (str(tmp_path / "a"), "workdir", "off", "workdir"):
        compilation.compilation_log().use(setting, tmp_path)
        folder = jax.config.jax_compilation_cache_dir
        jax.jit(lambda x, setting=setting: x + len(setting) + 0.125)(jnp.ones(5))
        if setting == "off":
            assert folder is None
        else:
            assert list(compilation.locate_folder(setting, tmp_path).glob("*-cache"))


def test_a_folder_without_a_name(tmp_path, capsys):
    assert runs.launched(tmp_path / "run", "--config.compilation_cache=", config=SINGLE) == 2
    assert "compilation_cache must be 'workdir', 'off' or a folder, got ''" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(unset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a folder that can be written, got '.*file/x'(.|\n)*Name another folder"):
        compilation.compilation_log().use(str(tmp_path / "file" / "x"), tmp_path)


@pytest.mark.slow
def test_a_run_that_is_started_again_compiles_nothing_and_ends_with_the_same_bits(tmp_path):
    """Not even where what was kept is damaged: that is compiled anew."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}

    def run(name, *flags):
        words = [sys.executable, "-m", "jaxdistill.launch", "--config", SINGLE, "--workdir", str(tmp_path / name)]
        return subprocess.run([*words, *flags], env=environment, capture_output=True, text=True, check=True).stdout

    said = run("a", "--config.compilation_cache=" + str(tmp_path / "kept"))
    assert "from the cache" not in said
    said = run("b", "--config.compilation_cache=" + str(tmp_path / "kept"))
    programs, found = (int(said.split(f" {word}")[0].split()[-1]) for word in ("programs", "from the cache"))
    assert found >= programs - 1  # what reads from a cache may itself be compiled
    entry = max((tmp_path / "kept").rglob("jit_one-*-cache"), key=lambda path: path.stat().st_size)
    entry.write_bytes(entry.read_bytes()[:1000])
    run("c", "--config.compilation_cache=" + str(tmp_path / "kept"))
    whole = runs.weights(tmp_path / "a", "train", 12)
    for name in ("b", "c"):
        assert all((runs.weights(tmp_path / name, "train", 12)[key] == value).all() for key, value in whole.items())
    assert json.loads((tmp_path / "a" / "config.json").read_text())["compilation_cache"].endswith("kept")
