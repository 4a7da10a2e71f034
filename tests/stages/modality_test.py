"""Texts and images are not taken for each other: what does not fit is told before anything is compiled."""

import pathlib

import numpy as np
import pytest

from jaxdistill.config import load
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
DECODER = dict(source="trained", model="decoder", layers=1, width=8, heads=1)


def built(folder, file, mode="", **changed):
    """Builds a config's first stages, with some of its settings changed (`a__b` for `a.b`)."""
    made = load.read(f"{CONFIGS / file}.py{mode}")
    with made.unlocked(), made.ignore_type():
        for key, value in changed.items():
            *above, last = key.split("__")
            section = made
            for name in above:
                section = section[name]
            section[last] = value
        kept = [name for name in made.stages if name in ("teacher", "live", "distil", *changed.get("stages", ()))]
        made.stages = {name: made.stages[name] for name in kept}
    return run.prepare(made.to_dict(), folder)


OF_TEXTS = [
    (
        {"networks__student": dict(source="trained", model="mlp")},
        r"model 'mlp' reads images, and 'arithmetic' has tokens; take one of the models \['decoder', 'encoder'\]",
    ),
    (
        {"networks__student__classes": 10},
        "model 'decoder' knows classes=10 tokens, and 'arithmetic' has 256; set classes",
    ),
    ({"networks__student__preprocess": dict(size=3)}, "preprocess is of images, and 'arithmetic' has texts"),
    ({"networks__student__input": "image2"}, r"must be one of \['tokens'\], got 'image2'; there is one view"),
    (
        {"terms__kd": dict(method="distilbert")},
        "term 'kd' must have labels, got data 'arithmetic' without any. Use labelled data",
    ),
    (
        {"networks__student": dict(source="trained", model="encoder", predicts="token", vocabulary=256, layers=1)},
        "CrossEntropy learns the next token, but network 'student', Encoder, attends to it. Use a decoder",
    ),
    ({"terms__kd": dict(method="sobolev")}, "term 'kd': tap must be an existing name, got 'derivative'"),
    ({"evaluate__metrics": ("ece",)}, "metric of next bytes must be an existing name, got 'ece'. There are"),
    ({"data__labels": 3}, "data.labels goes by labels, and the training split has examples without"),
]


@pytest.mark.parametrize(("changed", "message"), OF_TEXTS, ids=lambda x: str(x)[:50])
def test_on_texts(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        built(tmp_path, "language", **changed)


OF_IMAGES = [
    ({"networks__student": DECODER}, r"model 'decoder' reads tokens, and 'digits' has images; take one of .*'vit'"),
    ({"evaluate__metrics": ("perplexity",)}, "metric 'perplexity' is of tokens"),
    ({"data__length": 8}, "data.length=8 is of texts, and 'digits' has images"),
    ({"data__mix": {"a": dict(name="arithmetic")}}, "data.mix.a has texts and 'digits' images; a batch is of one kind"),
]


@pytest.mark.parametrize(("changed", "message"), OF_IMAGES, ids=lambda x: str(x)[:50])
def test_on_images(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        built(tmp_path, "tiny", **changed)


@pytest.fixture
def labelled(tmp_path):
    arrays = {f"{role}_tokens": np.arange(24).reshape(4, 6) % 11 for role in ("train", "validation", "test")}
    arrays |= {f"{role}_label": np.arange(4) % 2 for role in ("train", "validation", "test")}
    np.savez(tmp_path / "texts.npz", **arrays)
    return {"data__path": str(tmp_path / "texts.npz"), "batch": 8}


def test_classes_and_next_tokens_are_two_things(labelled, tmp_path):
    assert {*built(tmp_path, "language", ":classes", **labelled)} == {"teacher", "distil"}
    built(tmp_path, "language", ":classes", **labelled, terms__kd=dict(method="forward_kl"))
    with pytest.raises(
        UserError, match="model 'encoder' knows vocabulary=10 tokens, and 'npz' has 11; set vocabulary=11"
    ):
        built(tmp_path, "language", ":classes", **labelled, networks__student__vocabulary=10)
    with pytest.raises(UserError, match="metric 'bits_per_token' is of tokens, and the networks say one class"):
        built(tmp_path, "language", ":classes", **labelled, evaluate__metrics=("bits_per_token",))


def test_a_language_model_may_read_texts_that_have_labels(labelled, tmp_path):
    made = load.read(f"{CONFIGS / 'language'}.py:classes").to_dict() | {"batch": 8}
    made["data"]["path"], made["networks"] = labelled["data__path"], {"student": DECODER}
    made["terms"] = {"task": dict(method="cross_entropy")}
    made["stages"] = {"train": {}}
    made["evaluate"] |= dict(metrics=("accuracy", "bits_per_token"))
    stage = run.prepare(made, tmp_path)["train"]
    assert (stage.classes_of("student"), stage.dataset.classes, stage.per_token) == (11, 2, True)
    made["networks"]["both"] = dict(source="head", of="student", tap="final")
    made["evaluate"] |= dict(networks=("student", "both"))
    made["terms"]["exit"] = dict(method="cross_entropy", student="both")
    with pytest.raises(UserError, match=r"one label for each prediction, got labels \[8, 6\] and predictions \[8\]"):
        run.prepare(made, tmp_path)
    made["terms"]["exit"] = dict(method="kd", student="both", teacher="other")
    made["terms"]["back"] = dict(method="kd", student="other", teacher="both")
    made["networks"]["other"] = dict(made["networks"]["both"])
    made["evaluate"] |= dict(networks=("student", "both"))
    with pytest.raises(UserError, match=r"evaluates \['both'\], which say a class of each text, beside \['student'\]"):
        run.prepare(made, tmp_path)


def test_stages_that_look_at_images_are_refused(labelled, tmp_path):
    made = load.read(f"{CONFIGS / 'language'}.py:classes").to_dict() | {"batch": 8}
    made["data"]["path"] = labelled["data__path"]
    made["stages"] = {"fit": dict(kind="sklearn", classifier=dict(name="forest"))}
    with pytest.raises(UserError, match="stage 'fit' is of kind 'sklearn', which is for images, and 'npz' has"):
        run.prepare(made, tmp_path)


def test_a_cache_of_a_language_model_is_of_its_likeliest_tokens(tmp_path):
    made = load.read(f"{CONFIGS / 'language'}.py").to_dict()
    made["stages"]["ask"]["cache"]["what"] = "logits"
    with pytest.raises(
        UserError, match="network 'teacher' outputs 256 logits for each token, too many .*; set cache.store='topk'"
    ):
        run.prepare(made, tmp_path)
