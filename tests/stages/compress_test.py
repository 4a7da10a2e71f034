import pathlib

import numpy as np
import pytest

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
        (["--config.networks.student.compress.prune.match=conv"], "match must match a parameter"),
        (["--config.networks.student.compress.prune.sparsity=1.0"], "sparsity must be less than 1"),
        (["--config.networks.student.compress.prune.view=spars"], "'sparse'"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(tmp_path, capsys, flags, message):
    assert launched(tmp_path, *flags, config=CONFIG) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "teacher").exists()
