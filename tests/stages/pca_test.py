"""Principal components of a teacher's tap, fitted in a stage of their own."""

import pathlib

import numpy as np
import pytest
from sklearn.decomposition import PCA

import runs
from jaxdistill.build import resolve, weights
from jaxdistill.config import load
from jaxdistill.config.references import WeightsRef
from jaxdistill.data import loader
from jaxdistill.runtime import files
from runs import launched

REDUCED = str(pathlib.Path(__file__).parents[1] / "configs" / "reduced.py")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reduced") / "run"
    assert launched(folder, config=REDUCED) == 0
    return folder


def taps(run):
    """The teacher's pooled features of the training split."""
    stage = resolve.stage("distil", load.stages(load.read(REDUCED))["distil"])
    place = weights.find_checkpoint(WeightsRef(stage="teacher"), "teacher", run)
    known = {"teacher": weights.read(place, _placed(stage, stage.shapes.variables["teacher"]))}
    found = []
    for batch in loader.iterate_once(stage.data.dataset.split("train"), 64, 10, stage.data.process):
        output, _ = stage.networks["teacher"](known["teacher"], stage.data.prepare(batch), {}, None)
        found.append(np.asarray(output.tap("pooled"))[batch["mask"] > 0])
    return np.concatenate(found).astype(np.float64)


def _placed(stage, shapes):
    import jax

    from jaxdistill.train import mesh

    whole = mesh.replicated(stage.mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)


def test_they_are_those_of_scikit_learn(run):
    x = taps(run)
    expected = PCA(4).fit(x)
    arrays = runs.weights(run, "components", 1)
    np.testing.assert_allclose(arrays["variables.reduced.components.mean"], expected.mean_, rtol=1e-4, atol=1e-5)
    axes = arrays["variables.reduced.components.axes"]
    np.testing.assert_allclose(np.abs(np.sum(axes * expected.components_.T, 0)), 1.0, rtol=1e-4)
    kept = files.read_json(run / "components" / "done.json", dict)["variance_kept"]["reduced"]
    np.testing.assert_allclose(kept, expected.explained_variance_ratio_.sum(), rtol=1e-4)


@pytest.mark.slow
def test_an_axis_has_the_sign_of_its_largest_entry(run):
    axes = runs.weights(run, "components", 1)["variables.reduced.components.axes"]
    assert (axes[np.argmax(np.abs(axes), 0), np.arange(4)] > 0).all()


@pytest.mark.slow
def test_they_are_a_frozen_target_of_the_student(run):
    arrays = runs.weights(run, "distil", 12)
    assert arrays["params.hint.pooled_reduced.kernel"].shape == (8, 4)
    assert not [name for name in arrays if ".reduced." in name]
    assert any("hint" in line for line in runs.lines(run))


@pytest.mark.slow
def test_a_second_run_skips_it(run, capsys):
    assert launched(run, config=REDUCED) == 0
    assert "stage components: done before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.networks.reduced.weights="], "does not train network 'reduced'; set its weights"),
        (["--config.networks.reduced.components=99"], "components must be at most the width of the tap, 24, got 99"),
        (["--config.networks.reduced.tap=poled"], "tap must be an existing name, got 'poled'. Did you mean 'pooled'"),
        (["--config.stages.components.networks.teacher.weights="], "networks.teacher.weights must be set"),
        (["--config.networks.reduced.head=none"], "stage 'components' fits nothing"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(tmp_path, capsys, flags, message):
    assert launched(tmp_path / "run", *flags, config=REDUCED) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "teacher").exists()
