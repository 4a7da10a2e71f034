"""Logits of a file teach as a cached network, and settings that contradict them are refused."""

import numpy as np
import pytest

import runs
from jaxdistill.config import load
from jaxdistill.data import datasets
from jaxdistill.data.output_cache import Cache, Header
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run as pipeline

RAW = dict(
    batch=64,
    steps=2,
    data=dict(name="digits"),
    networks=dict(
        teacher=dict(source="cached", cache="stage:teacher"), student=dict(source="trained", model="mlp", widths=(4,))
    ),
    terms=dict(kd=dict(method="kd")),
    evaluate=dict(metrics=("accuracy", "agreement")),
)


def config(path, stage=(), **logits):
    teacher = dict(kind="logits", logits=dict(path=str(path), **logits), cache=dict(dtype="float32")) | dict(stage)
    measured = dict(evaluate=dict(networks=("teacher", "student")))
    return load.stages(RAW | dict(stages=dict(teacher=teacher, distil=measured)))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Logits of a teacher that is right about every example of two splits."""
    path = tmp_path_factory.mktemp("logits") / "teacher.npz"
    arrays = {}
    for role in ("train", "validation"):
        label = datasets.load("digits").split(role).labels()
        order = np.random.default_rng(0).permutation(len(label))
        arrays |= {f"{role}_logits": (5.0 * np.eye(10, dtype=np.float32)[label])[order], f"{role}_id": order}
    np.savez(path, **arrays)
    return path


def test_the_logits_of_a_file_are_cached_by_example(file, tmp_path):
    lines = []
    teacher = {"teacher": config(file)["teacher"]}
    pipeline.run(teacher, tmp_path / "run", lines.append)
    cache = Cache(tmp_path / "run" / "teacher", Header.read(tmp_path / "run" / "teacher"))
    label = datasets.load("digits").split("train").labels()
    np.testing.assert_array_equal(cache.load_all("train")["logits"][:, 0], 5.0 * np.eye(10)[label])
    assert {*cache.header.splits} == {"train", "validation"}
    lines.clear()
    pipeline.run(teacher, tmp_path / "run", lines.append)
    assert lines == ["stage teacher: done before"]


@pytest.mark.slow
def test_a_student_learns_from_the_logits_of_a_file(file, tmp_path):
    pipeline.run(config(file), tmp_path / "run", lambda line: None)
    [line] = [line for line in runs.lines(tmp_path / "run") if line.get("split") == "validation"]
    assert line["teacher/accuracy"] == 1.0
    assert 0 < line["student/agreement"] < 1


def test_probabilities_and_top_k(file, tmp_path):
    stages = pipeline.prepare(config(file, dict(cache=dict(store="top_k", k=2)), form="probabilities"), tmp_path)
    header = stages["teacher"].kind.cache_header(stages["teacher"])
    assert {*header.arrays} == {"values", "ids", "log_rest"}
    assert header.teacher["form"] == "probabilities"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (dict(data=dict(augment=("rotate:5",))), r"stages\.teacher\.data\.augment must be \(\)"),
        (dict(cache=dict(splits=("test",))), r"cache\.splits must be of \['train', 'validation'\], the splits of"),
        (dict(logits=dict(path="nosuch.npz")), "the file of logits must be a readable .npz, got 'nosuch.npz'"),
        (dict(logits=dict(path="")), r"the file of logits must be \.npz or \.parquet"),
    ],
)
def test_contradictions_are_refused(file, tmp_path, stage, message):
    with pytest.raises(UserError, match=message):
        pipeline.prepare(config(file, stage), tmp_path)


def test_other_classes_are_refused(tmp_path):
    lengths = {role: len(split) for role, split in datasets.load("digits").splits.items()}
    np.savez(tmp_path / "few.npz", train_logits=np.zeros((lengths["train"], 4), np.float32))
    with pytest.raises(UserError, match="must have 10 logits, one for each class of digits"):
        pipeline.prepare(config(tmp_path / "few.npz"), tmp_path)
