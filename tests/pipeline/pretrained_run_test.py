"""A run that starts from a Hugging Face folder: fine-tuned with a new head, then taught to one of its blocks."""

import json

import numpy as np
import pytest

import runs
from pretrained_folders import bert_tensors, write_bert
from runs import launched

CONFIG = """
from ml_collections import ConfigDict

def get_config(mode=""):
    c = ConfigDict()
    c.batch, c.steps = 8, 2
    c.data = dict(name="npz", path="{npz}")
    c.networks = dict(
        teacher=dict(source="trained", weights="hf:{folder}", head="new", dropout=0.0),
        student=dict(
            source="trained", model="encoder", layers=1, width=8, heads=2, hidden=12, vocabulary=20, length=10,
            epsilon=1e-12, weights="stage:finetune#teacher", blocks=(1,),
        ),
    )
    c.terms = dict(task=dict(method="cross_entropy", student="teacher"), kd=dict(method="kd"))
    c.learning_rate = 0.0
    c.optimizer = dict(name="sgd", momentum=0.0, nesterov=False)
    c.evaluate = dict(metrics=("accuracy",), split="train")
    c.stages = dict(
        finetune=dict(networks=dict(teacher=dict()), terms=dict(task=dict())),
        distil=dict(
            networks=dict(teacher=dict(source="frozen", weights="stage:finetune"), student=dict()),
            terms=dict(kd=dict()),
        ),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                teacher=dict(source="frozen", weights="stage:finetune"), student=dict(weights="stage:distil")
            ),
        ),
    )
    return c
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir; nothing moves, so that weights can be followed to the end."""
    folder = tmp_path_factory.mktemp("pretrained")
    rng = np.random.default_rng(0)
    arrays = {"train_tokens": rng.integers(0, 20, (16, 6)), "train_label": rng.integers(0, 4, 16)}
    np.savez(folder / "texts.npz", **arrays, class_names=np.array(list("abcd")), vocabulary=20)
    write_bert(folder / "bert")
    (folder / "config.py").write_text(CONFIG.format(npz=folder / "texts.npz", folder=folder / "bert"))
    assert launched(folder / "run", config=str(folder / "config.py")) == 0
    return folder / "run"


def test_the_body_is_pretrained_and_the_head_has_the_classes_of_the_data(run):
    found, tensors = runs.weights(run, "finetune", 2), bert_tensors()
    wanted = tensors["bert.encoder.layer.1.intermediate.dense.weight"].T
    np.testing.assert_array_equal(found["params.teacher.block1.feed_forward.up.kernel"], wanted)
    assert found["params.teacher.head.kernel"].shape == (8, 4)
    assert found["params.teacher.head.kernel"].std() > 0


def test_the_student_starts_from_one_block_of_the_teacher(run):
    found, teacher = runs.weights(run, "distil", 2), runs.weights(run, "finetune", 2)
    for name in ("norm1.scale", "attention.query.kernel"):
        np.testing.assert_array_equal(found[f"params.student.block0.{name}"], teacher[f"params.teacher.block1.{name}"])
    for name in ("embed.embedding", "head.kernel"):
        np.testing.assert_array_equal(found[f"params.student.{name}"], teacher[f"params.teacher.{name}"])
    assert not any(name.startswith("params.student.block1.") for name in found)


def test_a_folder_that_changed_is_noticed(run, capsys):
    path = run.parent / "bert"
    write_bert(path, bert_tensors(seed=1))
    (run / "finetune" / "done.json").unlink()
    assert launched(run, config=str(run.parent / "config.py")) == 2
    assert "weights of network 'teacher' in stage 'finetune', hf:" in capsys.readouterr().err
    write_bert(path)


def test_a_frozen_network_has_no_new_head(run, capsys):
    flag = "--config.stages.distil.networks.teacher.head=new"
    assert launched(run.parent / "other", flag, config=str(run.parent / "config.py")) == 2
    assert "networks.teacher.head must be '' for a frozen network" in capsys.readouterr().err


def test_a_new_head_is_refused_where_nothing_is_trained(run, capsys):
    flag = "--config.stages.evaluate.networks.teacher.head=new"
    flags = ("--config.stages.evaluate.networks.teacher.source=trained", flag)
    assert launched(run.parent / "other", *flags, config=str(run.parent / "config.py")) == 2
    assert "stage 'evaluate': networks.teacher.head must be ''" in capsys.readouterr().err


def test_results_are_of_both(run):
    names = json.loads((run / "results.json").read_text())
    assert "teacher" in json.dumps(names)
    assert "student" in json.dumps(names)
