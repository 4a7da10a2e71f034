"""Tests run on eight virtual CPU devices, with rank promotion refused and a compile cache that outlives them."""

import gc
import importlib.metadata
import os
import pathlib
import signal

# Before JAX starts: more than one device, so that sharding is tested on every machine.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
# Tests compile more than they compute, and emitters of fusions take half of that. A newer XLA stops at their flag.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0"]
    + ["--xla_cpu_use_fusion_emitters=false"] * importlib.metadata.version("jaxlib").startswith("0.10.")
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import pytest
from jaxtyping import install_import_hook

CHECKED = ["jaxdistill.losses", "jaxdistill.modules", "jaxdistill.methods"]
"""Rooms whose annotated shapes are checked at every call while tests run, and never otherwise.

The types of `core` are pytrees, whose fields also hold shapes, specs and numbers of them.
"""

# Before any of them is imported.
install_import_hook(CHECKED, "shape_checks.check")


def _ignored_signals() -> set[signal.Signals]:
    return {number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) is signal.SIG_IGN}


IGNORED = _ignored_signals()
"""Those that the session was started with, as a command in the background is."""

ROOT = pathlib.Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
"""The developers' datasets and golden numbers, where they are; nowhere on a user's machine."""

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".pytest_cache" / "compiled"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_collection_finish():
    """Leaves what collection has made, which stays, out of garbage collection: a tenth of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_file():
    """Frees what a file's tests compiled: gigabytes by the end of a session, which also slow garbage collection."""
    yield
    jax.clear_caches()
    assert gc.isenabled(), "a test has left garbage collection paused"
    assert _ignored_signals() == IGNORED, "processes of later tests would inherit what is ignored"


@pytest.fixture
def tfds_dir():
    """The folder of prepared TFDS datasets."""
    if not (SHARED / "tfds").is_dir():
        pytest.skip(f"no prepared datasets in {SHARED / 'tfds'}")
    return str(SHARED / "tfds")


@pytest.fixture(scope="session")
def tiny_tfds_dir(tmp_path_factory):
    """A folder of prepared TFDS datasets of a few examples, on every machine."""
    import tiny_tfds

    folder = tmp_path_factory.mktemp("tfds")
    tiny_tfds.prepare(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_dense_dir(tmp_path_factory):
    """A folder of a prepared TFDS dataset of images with masks and boxes."""
    import tiny_tfds

    folder = tmp_path_factory.mktemp("dense")
    tiny_tfds.prepare_dense(folder)
    return str(folder)


@pytest.fixture(scope="session")
def one_device(tmp_path_factory):
    """The environment of a process of its own: one CPU device, and a compile cache, so that each is quick."""
    cache = str(tmp_path_factory.mktemp("cache"))
    more = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return os.environ | more | {"JAX_NUM_CPU_DEVICES": "1"}


@pytest.fixture
def compiled(caplog):
    """Counts compilations of a jitted function by its name; its cache's size counts more than those."""
    with jax.log_compiles():
        yield lambda name: sum(f"Compiling jit({name})" in record.getMessage() for record in caplog.records)


def pytest_collection_modifyitems(items):
    """Keeps the tests of one method, or of one golden loss, in one worker: they share what is compiled."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        name = parameters.get("case", {}).get("loss", "")
        if item.path.name == "conformance_test.py":
            name = parameters.get("name", "")
        item.add_marker(pytest.mark.xdist_group(f"{item.path.name}/{name}"))
