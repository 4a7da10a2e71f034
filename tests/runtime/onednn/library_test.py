"""The compiled library: what is missing, what fails, several processes, and convolutions of many shapes."""

import itertools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime.onednn import library, operation, program
from onednn_calls import count_calls, draw, gradients, largest_difference

needs_onednn = pytest.mark.skipif(library.find_parts() is None, reason=f"needs {library.EXTRA}")


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Parts of oneDNN that are installed, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = library.Parts(tmp_path / "libdnnl.so.3", tmp_path, "1.0")
    monkeypatch.setattr(library, "find_parts", lambda: found)
    library.load.cache_clear()
    yield found
    library.load.cache_clear()


def test_without_the_extra_its_name_is_given(monkeypatch):
    monkeypatch.setattr(library, "find_parts", lambda: None)
    library.load.cache_clear()
    with pytest.raises(UserError, match=r"oneDNN must be installed .* Run pip install 'jaxdistill\[onednn\]'"):
        library.load()


def test_without_a_compiler(parts, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(library.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"a C\+\+ compiler must be installed for oneDNN's convolutions, got none of"):
        library.load()


def test_a_compiler_that_fails(parts, monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'convolution.cc:1: error: no such standard' >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(
        UserError, match=r"c\+\+ must compile oneDNN's .*failed: convolution.cc:1: error: no such standard"
    ):
        library.load()
    left = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert left == {"lock"}


def test_a_compiler_that_does_not_exist(parts, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(UserError, match=r"CXX must be a C\+\+ compiler, got '/nowhere/c\+\+' \(No such file"):
        library.load()


def test_a_cache_folder_that_cannot_be_written(parts, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        UserError, match=r"must be a folder that can be written \(Not a directory\). Set XDG_CACHE_HOME"
    ):
        library.load()


def test_a_library_that_cannot_be_loaded_is_named(parts, monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho broken > "$2"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(UserError, match=r"convolution.so must be a library that this machine can load .*Delete it"):
        library.load()


def test_another_version_is_another_file(parts):
    newer = library.Parts(parts.library, parts.headers, "2.0")
    assert library._make_key(parts) != library._make_key(newer)


PRINT_BITS = """
import jax, sys
from jaxdistill.runtime.onednn import library, program
from onednn_calls import draw, gradients
run = jax.jit(program.use_onednn(gradients(2, "SAME"), library.load()))
print([y.tobytes().hex()[:64] for y in jax.device_get(run(*draw((8, 12, 12, 16), (3, 3, 16, 16))))])
"""


@needs_onednn
@pytest.mark.slow
def test_several_processes_compile_once_and_programs_are_found_again(tmp_path):
    """A program with custom calls is stored, and read by a process that registers the library first."""
    environment = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-c", PRINT_BITS]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate()[0] for process in both]
    assert texts[0].startswith("[")
    assert texts[0] == texts[1]
    built = sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert built == ["convolution.so", "lock"]
    stored = sorted(path.name for path in (tmp_path / "programs").iterdir() if "atime" not in path.name)
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.stdout == texts[0]
    assert sorted(path.name for path in (tmp_path / "programs").iterdir() if "atime" not in path.name) == stored


@needs_onednn
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("groups", [1, 2, 4, 16])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_shapes(kernel, groups, dtype):
    """In bfloat16 each side rounds its own float32 sum once, so that they differ by one unit in the last place."""
    sizes = ((13, 16, 32), (12, 48, 16))
    cases = [*itertools.product((1, 2), (1, 2), ("SAME", "VALID", ((2, 1), (0, 3))), sizes)]
    arrays = [
        draw((5, size, size + 1, inputs), (kernel, kernel, inputs // groups, outputs), dtype=dtype)
        for *_, (size, inputs, outputs) in cases
    ]

    def run(arrays):
        each = [gradients(stride, padding, dilation, groups) for stride, dilation, padding, _ in cases]
        return [convolve(*pair) for convolve, pair in zip(each, arrays, strict=True)]

    rewritten = program.use_onednn(run, library.load())
    assert count_calls(rewritten, arrays) == 3 * len(cases)
    expected, outputs = jax.jit(run)(arrays), jax.jit(rewritten)(arrays)
    for case, left, right in zip(cases, expected, outputs, strict=True):
        assert largest_difference(left, right) < (2**-7 if dtype == jnp.bfloat16 else 3e-6), case


@needs_onednn
@pytest.mark.slow
def test_implementations_are_named_and_a_geometry_without_one_is_left():
    onednn = library.load()
    codes = dict.fromkeys(("kind", "operands", "results", "fused"), 0)
    fields = dict.fromkeys(operation.Geometry.__dataclass_fields__, 1) | codes
    sizes = {"batch": 4, "inputs": 16, "outputs": 16, "height": 8, "width": 8, "out_height": 8, "out_width": 8}
    padding = dict.fromkeys(("top", "left", "bottom", "right"), 0)
    good = operation.Geometry(**(fields | sizes | padding))
    assert ":" in onednn.find_implementations(good)
    assert onednn.has(good)
    bad = operation.Geometry(**(fields | sizes | padding | {"out_height": 3}))
    assert onednn.find_implementations(bad) == ""
    assert not onednn.has(bad)


def test_the_source_is_part_of_the_package():
    assert library.SOURCE.is_file()
    assert library.SOURCE.name in (pathlib.Path(library.__file__).parents[3] / "pyproject.toml").read_text()
