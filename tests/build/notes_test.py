"""Notes on settings that are permitted and may not be meant."""

import dataclasses
import pathlib

import numpy as np
import pytest

import runs
from jaxdistill.build import weights
from jaxdistill.build.notes import notes
from jaxdistill.config import load as configs
from jaxdistill.generation.on_policy import OnPolicy
from jaxdistill.networks import Routed
from jaxdistill.networks.meaning import Meaning
from jaxdistill.pipeline import run


def stage(*flags, name="distil"):
    return run.prepare(configs.load(runs.TINY, [f"--config.{flag}" for flag in flags]), pathlib.Path())[name]


def test_a_usual_stage_has_none():
    assert notes(stage(), pathlib.Path()) == []


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["data.subset.count=40", "data.labels_per_class=0"], "batch=64 is larger than the 40 examples"),
        (["learning_rate.decay_steps=99"], "learning_rate changes until step 99, and the stage ends at 12"),
        (["terms.kd.weight.over=40"], "terms.kd.weight changes until step 40, and the stage ends at 12"),
        (["data.labels_per_class=108"], "data.labels_per_class=108 is more than the classes 0, "),
        (["data.classes=3"], "terms ['task'] learn from labels of one class alone, class 3"),
        (["stages.distil.networks.student.quantize=int8"], "networks.student.quantize has no effect on a network that"),
        (["on_policy.staleness=3"], "on_policy.staleness=3 has no effect without on_policy.share, since no text"),
        (
            ["data.augment=mixup:0.2", "data.labels_per_class=1"],
            "mixup:0.2 mixes pairs, of which both must have a label to count: about 0.0055 of a batch",
        ),
    ],
)
def test_settings_that_may_not_be_meant_have_a_line(flags, line):
    assert [text for text in notes(stage(*flags), pathlib.Path()) if text.startswith(line)]


def test_texts_that_are_read_to_the_end():
    built = stage()
    line = "on_policy.staleness=12 is not below the 12 steps of the stage, so that the texts of the first step are read"
    for staleness, lines in ((11, 0), (12, 1)):
        settings = dataclasses.replace(built.settings, on_policy=OnPolicy(share=0.5, staleness=staleness))
        found = notes(dataclasses.replace(built, settings=settings), pathlib.Path())
        assert len([text for text in found if text.startswith(line)]) == lines


def test_values_that_no_row_has_are_noted():
    built = stage()
    source = dataclasses.replace(Routed(of=("teacher",)), notes=("values has ['fr'], which no row",))
    built = dataclasses.replace(built, networks={**built.networks, "student": source})
    assert "networks.student.values has ['fr'], which no row" in notes(built, pathlib.Path())


def test_texts_that_are_cut_are_counted():
    built = stage()
    dataset = dataclasses.replace(built.data.dataset, cut_texts={"train": (1200, 5000), "validation": (0, 9)})
    built = dataclasses.replace(built, data=dataclasses.replace(built.data, dataset=dataset))
    assert notes(built, pathlib.Path()) == ["data.length=0 cuts 1,200 of 5,000 texts of train, which lose tokens"]


def test_what_is_assumed_of_weights_is_named(tmp_path, monkeypatch):
    class Checkpoint:
        image_spec, meaning = None, Meaning(("cat", "dog"))

    built = stage()
    ref = weights.WeightsRef(folder=tmp_path)
    built.references["teacher"]["weights"] = ref
    monkeypatch.setattr(weights, "find", lambda *arguments: Checkpoint)
    images, classes = notes(built, tmp_path)
    mean = round(float(np.asarray(built.data.task.mean)[0]), 4)
    assert f"do not store their images; those of this stage are assumed, of shape (8, 8, 1), mean [{mean}]" in images
    assert classes.endswith("assumed to have their classes in one order, since the data have no names")
