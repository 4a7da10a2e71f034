"""Checks of networks, methods and metrics against the task, before anything is compiled."""

import pathlib

import numpy as np
import pytest

from jaxdistill.config import load
from jaxdistill.data.dataset import Dataset
from jaxdistill.data.texts import Texts
from jaxdistill.errors import UserError
from jaxdistill.models.bag_of_embeddings import BagOfEmbeddings
from jaxdistill.pipeline import run
from jaxdistill.tasks.text_classification import TextClassification

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
DECODER = dict(source="trained", model="decoder", layers=1, width=8, heads=1)


def built(folder, file, mode="", **changed):
    """Builds a config's first stages, with some of its settings changed (`a__b` for `a.b`)."""
    made = load.read(f"{CONFIGS / file}.py{mode}")
    for key, value in changed.items():
        *above, last = key.split("__")
        section = made
        for name in above:
            section = section[name]
        section[last] = value
    kept = [name for name in made["stages"] if name in ("teacher", "live", "distil", *changed.get("stages", ()))]
    made["stages"] = {name: made["stages"][name] for name in kept}
    return run.prepare(load.stages(made), folder)


OF_TEXTS = [
    (
        {"networks__student": dict(source="trained", model="mlp")},
        r"model must take 'tokens', .*, got 'mlp', .* models \['bag_of_embeddings', 'bilstm', 'decoder', 'encoder'\]",
    ),
    (
        {"networks__student__classes": 10},
        r"student.classes must be at least 256, the tokens of 'arithmetic', got 10 .* Set classes=256",
    ),
    ({"networks__student__preprocess": dict(size=3)}, "preprocess must be absent, since 'arithmetic' has texts"),
    ({"networks__student__input": "image2"}, r"must be one of \['tokens'\], got 'image2'. A text has one view"),
    (
        {"terms__kd": dict(method="distilbert")},
        "term 'kd' must have labels, got 'arithmetic' without any but next tokens, .*. Use labelled data",
    ),
    (
        {"networks__student__input": "image2"},
        r"input of network 'student' must be one of \['tokens'\], got 'image2'. A text has one view",
    ),
    (
        {"networks__student": dict(source="trained", model="encoder", predicts="token", vocabulary=256, layers=1)},
        "network 'student' must not depend on later tokens, got 'student', .* Take a decoder",
    ),
    ({"terms__kd": dict(method="sobolev")}, "'derivative'. There are .*'final'"),
    ({"evaluate__metrics": ("ece",)}, "metrics must be metrics of the task language_model, got 'ece'. There are"),
    (
        {"data__labels_per_class": 3},
        "data.labels_per_class goes by labels, and the training split has examples without",
    ),
]


@pytest.mark.parametrize(("changed", "message"), OF_TEXTS, ids=lambda x: str(x)[:50])
def test_on_texts(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        built(tmp_path, "language", **changed)


@pytest.mark.parametrize("term", [dict(method="kd"), dict(method="cross_entropy", teacher="")], ids=str)
def test_methods_of_logits_fit_next_tokens(term, tmp_path):
    assert built(tmp_path, "language", terms__kd=term)["live"].data.task.name == "language_model"


OF_IMAGES = [
    (
        {"networks__student": DECODER},
        r"must take 'image', the input of 'digits', got 'decoder', which takes 'tokens'. Use one of .*'vit'",
    ),
    ({"evaluate__metrics": ("perplexity",)}, "must be metrics of the task image_classification, got 'perplexity'"),
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
        UserError, match=r"student.vocabulary must be at least 11, the tokens of 'npz', got 10 \(model 'encoder'\)"
    ):
        built(tmp_path, "language", ":classes", **labelled, networks__student__vocabulary=10)
    with pytest.raises(UserError, match="must be metrics of the task text_classification, got 'bits_per_token'"):
        built(tmp_path, "language", ":classes", **labelled, evaluate__metrics=("bits_per_token",))


def test_a_language_model_may_read_texts_that_have_labels(labelled, tmp_path):
    made = load.read(f"{CONFIGS / 'language'}.py:classes") | {"batch": 8}
    made["data"]["path"], made["networks"] = labelled["data__path"], {"student": DECODER}
    made["terms"] = {"task": dict(method="cross_entropy")}
    made["stages"], made["task"] = {"train": {}}, "language_model"
    made["evaluate"] |= dict(metrics=("accuracy", "bits_per_token"))
    stage = run.prepare(load.stages(made), tmp_path)["train"]
    task = stage.data.task
    assert (stage.shapes.num_classes("student"), task.num_classes, len(task.dataset.class_names)) == (11, 11, 2)
    assert (task.name, task.unit) == ("language_model", "token")
    made["networks"]["both"] = dict(source="head", of="student", tap="final")
    made["evaluate"] |= dict(networks=("student", "both"))
    made["terms"]["exit"] = dict(method="cross_entropy", student="both")
    with pytest.raises(UserError, match="term 'exit' .*: network 'both' must output one prediction per token"):
        run.prepare(load.stages(made), tmp_path)
    del made["terms"]["exit"]
    made["networks"]["both"]["frozen"] = True
    with pytest.raises(UserError, match="evaluate: network 'both' must output one .* networks of one kind"):
        run.prepare(load.stages(made), tmp_path)


def test_stages_of_images_are_refused(labelled, tmp_path):
    made = load.read(f"{CONFIGS / 'language'}.py:classes") | {"batch": 8}
    made["data"]["path"] = labelled["data__path"]
    made["stages"] = {"fit": dict(kind="sklearn", sklearn=dict(name="forest"))}
    with pytest.raises(UserError, match="stage 'fit' of kind 'sklearn' must have images or features .* got 'npz'"):
        run.prepare(load.stages(made), tmp_path)


def test_a_cache_of_a_language_model_is_of_its_likeliest_tokens(tmp_path):
    made = load.read(f"{CONFIGS / 'language'}.py")
    made["stages"]["ask"]["cache"]["store"] = "logits"
    with pytest.raises(UserError, match="network 'teacher' outputs 256 logits for each token, too many") as caught:
        run.prepare(load.stages(made), tmp_path)
    ways = str(caught.value).partition("; set ")[2].split("; or ")
    stores = [
        "cache.store='hidden'",
        "'top_k', and teach by the method top_k",
        "'sampled', and teach by random_sampling",
    ]
    assert [way.startswith(store) for way, store in zip(ways, stores, strict=True)] == [True] * 3


def test_a_teacher_holds_the_tokens_of_its_own_tokenizer():
    tokens = Texts(np.zeros((1, 4), np.int32), np.zeros(1, np.int32))
    task = TextClassification(Dataset({"train": tokens}, ("a", "b"), (4,), 9, name="rows", teacher_vocabulary=25))
    model = BagOfEmbeddings(2, vocabulary=15)
    task.check_model("student", "bag_of_embeddings", model, field="tokens", models={})
    with pytest.raises(UserError, match=r"vocabulary must be at least 25, the teacher_tokens of 'rows', got 15"):
        task.check_model("teacher", "bag_of_embeddings", model, field="teacher_tokens", models={})
