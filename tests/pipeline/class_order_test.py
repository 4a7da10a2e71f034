"""A teacher whose classes have another order, from two .npz files of the same images."""

import numpy as np
import pytest

import runs
from jaxdistill.build.weights import CheckpointRef
from jaxdistill.runtime import files

CONFIG = """
from ml_collections import ConfigDict
def get_config(mode=""):
    c = ConfigDict(); c.batch, c.steps = 32, 40
    c.data = dict(name="npz", path="{here}/" + ("a.npz" if mode == "teacher" else mode + ".npz"))
    c.optimizer, c.learning_rate = dict(name="adam"), 1e-2
    teacher = dict(model="mlp", widths=(16,))
    if mode == "teacher":
        c.networks = dict(teacher=dict(source="trained", **teacher))
        c.terms = dict(task=dict(method="cross_entropy", student="teacher"))
        c.stages = dict(teacher=dict())
    else:
        frozen = dict(source="frozen", weights="{here}/runs/teacher/teacher", **teacher)
        c.networks = dict(teacher=frozen, student=dict(source="trained", model="mlp", widths=(8,)))
        c.terms = dict(kd=dict(method="kd"))
        c.stages = dict(distil=dict())
        c.stages.evaluate = dict(kind="evaluate", networks=dict(teacher={{}}))
        c.stages.evaluate.evaluate = dict(split="test", saliency=False)
        c.stages.evaluate.networks.student = dict(source="frozen", weights="stage:distil")
    return c
"""


def write(path, order, names):
    draw, arrays = np.random.default_rng(3), {"class_names": np.array(names)}
    for role, n in (("train", 96), ("validation", 32), ("test", 64)):
        label = draw.integers(0, 4, n)
        image = (draw.integers(0, 60, (n, 4, 4)) + 60 * label[:, None, None]).astype(np.uint8)
        arrays |= {f"{role}_image": image, f"{role}_label": np.array(order)[label]}
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    here = tmp_path_factory.mktemp("classes")
    write(here / "a.npz", [0, 1, 2, 3], ["cat", "dog", "fox", "owl"])
    write(here / "b.npz", [3, 1, 2, 0], ["owl", "dog", "fox", "cat"])
    write(here / "c.npz", [0, 1, 2, 3], ["bus", "car", "van", "owl"])
    (here / "config.py").write_text(CONFIG.format(here=here))
    assert runs.launched(here / "runs" / "teacher", config=f"{here}/config.py:teacher") == 0
    return here / "config.py"


@pytest.mark.slow
def test_a_teacher_teaches_the_classes_of_its_names(config):
    here = config.parent
    assert CheckpointRef(here / "runs/teacher/teacher" / files.CHECKPOINTS, 40, "teacher").meaning.class_names == (
        "cat",
        "dog",
        "fox",
        "owl",
    )
    assert runs.launched(here / "runs" / "b", config=f"{config}:b") == 0
    accuracy = {row["network"]: row["accuracy"] for row in runs.results(here / "runs" / "b")}
    # In the wrong order they are right on two of four classes at most.
    assert accuracy["teacher"] > 0.8
    assert accuracy["student"] > 0.6


@pytest.mark.slow
def test_a_teacher_of_other_classes_is_refused(config, capsys):
    assert runs.launched(config.parent / "runs" / "c", config=f"{config}:c") == 2
    assert "stage 'distil': term 'kd': network 'teacher' must have the classes of 'npz', such as ['bus'" in (
        capsys.readouterr().err
    )
