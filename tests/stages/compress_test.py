import pathlib
import shutil

import numpy as np
import pytest

from meshes import MESHES
from tests.runs import launched, results, stop_at, weights

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "compressed.py")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed")
    assert launched(folder, config=CONFIG) == 0
    return folder


def test_views_are_fitted_trained_under_and_measured(run):
    teacher, fitted, student = (weights(run, *at) for at in (("teacher", 8), ("fit", 1), ("distil", 8)))
    kernel = "params.student.dense1.kernel"
    np.testing.assert_array_equal(fitted[kernel], teacher["params.teacher.dense1.kernel"])
    mask = student["variables.student.compress.prune.dense1.kernel"]
    assert fitted["variables.student.compress.prune.dense1.kernel"].all()
    assert int((~mask).sum()) == round(0.75 * mask.size)
    assert {row["network"] for row in results(run)} == {"teacher", "student"}


def test_a_run_that_stops_resumes_to_the_same_bits(run, tmp_path):
    flags = ("--config.checkpoint.every=4",)
    assert launched(tmp_path, *flags, config=CONFIG, stop=stop_at(6)) != 0
    assert launched(tmp_path, *flags, config=CONFIG) == 0
    unbroken, resumed = weights(run, "distil", 8), weights(tmp_path, "distil", 8)
    assert {name for name, x in unbroken.items() if not np.array_equal(x, resumed[name])} == set()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.stages.fit.networks.student.weights=stage:teacher"], "weights must be '' in stage 'fit'"),
        (["--config.networks.student.widths=(8,)"], "must be a network of the model of 'teacher'"),
        (["--config.networks.student.compress={}"], "compress must have a view in stage 'fit'"),
        (["--config.stages.fit.compress.network=techer"], "'teacher'"),
        (
            ["--config.stages.fit.data.size=1"],
            "on inputs [8, 8, 1], as 'teacher' is, got 'student' on [1, 1, 1]",
        ),
        (["--config.networks.student.compress.prune.match=conv"], "match must match a parameter"),
        (["--config.networks.student.compress.prune.sparsity=1.0"], "sparsity must be less than 1"),
        (["--config.networks.student.compress.prune.view=spars"], "'sparse'"),
        (["--config.networks.student.compress.prune.over=9"], "prune must be complete within the 8 steps of"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(tmp_path, capsys, flags, message):
    assert launched(tmp_path, *flags, config=CONFIG) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "teacher").exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    assert launched(folder, config=f"{CONFIG}:small") == 0
    return folder


@pytest.mark.slow
def test_a_teacher_without_half_its_units_is_factored_pruned_and_distilled(small):
    fitted, student = weights(small, "fit", 1), weights(small, "distil", 8)
    shapes = {name.removeprefix("params.student."): x.shape for name, x in student.items() if "compress" not in name}
    expected = {"in.kernel": (64, 4), "out.kernel": (4, 8), "bias": (8,)}
    assert {name: shapes[f"dense1.{name}"] for name in expected} == expected
    assert shapes["head.kernel"] == (8, 10)
    assert "dense1.kernel" not in shapes
    # The kept biases are the teacher's, in their order.
    bias = list(weights(small, "teacher", 8)["params.teacher.dense1.bias"])
    assert [bias.index(x) for x in fitted["params.student.dense1.bias"]] == sorted(
        bias.index(x) for x in fitted["params.student.dense1.bias"]
    )
    assert not np.array_equal(student["params.student.dense1.in.kernel"], fitted["params.student.dense1.in.kernel"])
    assert {row["network"]: row["parameters"] for row in results(small)} == {"teacher": 1210, "student": 386}


@pytest.mark.slow
def test_a_compressed_student_is_loaded_on_another_mesh(small, tmp_path):
    """Trained from the fitted weights with each array split over 8 devices, and evaluated with each of them whole."""
    for name in ("teacher", "fit"):
        shutil.copytree(small / name, tmp_path / name)
    shutil.copy(small / "config.json", tmp_path)
    flags = (flag.replace("--config.", "--config.stages.distil.") for flag in MESHES["fsdp"])
    assert launched(tmp_path, *flags, config=f"{CONFIG}:small") == 0
    one, other = weights(small, "distil", 8), weights(tmp_path, "distil", 8)
    assert {name: x.shape for name, x in one.items()} == {name: x.shape for name, x in other.items()}
    for name in ("params.student.dense1.in.kernel", "params.student.head.kernel"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-3, atol=1e-4)
    assert {row["network"]: row["parameters"] for row in results(tmp_path)} == {"teacher": 1210, "student": 386}
