"""Teachers that are no networks: fitted by a stage, read from its cache."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import runs
from jaxdistill.config import load
from jaxdistill.data import datasets, subsets
from jaxdistill.data.output_cache import Cache, Header
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run as pipeline
from jaxdistill.stages import sklearn as classifier

CLASSIFIERS = str(pathlib.Path(__file__).parents[1] / "configs" / "classifiers.py")


def ran(workdir):
    """Runs the pipeline; returns what it said."""
    said = []
    pipeline.run(load.load(CLASSIFIERS), workdir, said.append)
    return said


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifiers") / "run"
    ran(folder)
    return folder


def rows(split):
    return split.image.reshape(len(split), -1).astype(np.float32) / np.float32(255), split.label


def fitted(kind, part, by):
    train = datasets.load("digits").split("train")
    x, y = rows(train)
    mine = subsets.partition(train.labels(), 3, by, concentration=0.5, seed=0)[part]
    return kind.fit(x[mine], y[mine])


def test_it_equals_scikit_learn_on_all_examples_when_fitted_on_its_part(run):
    said = Cache(run / "forest", Header.read(run / "forest"))
    forest = fitted(RandomForestClassifier(n_estimators=20, random_state=0), 0, "class")
    assert len(forest.classes_) < 10
    for role, split in datasets.load("digits").splits.items():
        expected = np.full((len(split), 10), 1e-6)
        expected[:, forest.classes_] = np.maximum(forest.predict_proba(rows(split)[0]), 1e-6)
        logits = said.load_all(role)["logits"]
        assert logits.shape == (len(split), 1, 10)
        np.testing.assert_allclose(logits[:, 0], np.log(expected), rtol=1e-5, atol=1e-5)


def test_its_accuracy_is_printed_and_equals_that_of_the_cached_network(run):
    test, table = datasets.load("digits").split("test"), {row["network"]: row for row in runs.results(run)}
    logistic = fitted(LogisticRegression(random_state=0), 1, "iid")
    x, y = rows(test)
    assert table["logistic"]["accuracy"] == pytest.approx(logistic.score(x, y))
    assert table["teacher"]["agreement"] == 1.0
    done = json.loads((run / "logistic" / "done.json").read_text())
    x, y = rows(datasets.load("digits").split("validation"))
    assert done["accuracy"] == pytest.approx(logistic.score(x, y))
    assert done["split"] == "validation"


@pytest.mark.slow
def test_forest_and_network_teach_as_one(run):
    """A network of a few steps is no better than a forest of a third of the classes; the three together are."""
    table = {row["network"]: row["accuracy"] for row in runs.results(run)}
    assert table["teacher"] > table["forest"]
    assert table["student"] > 0.2
    assert not list(run.rglob("*.pkl")) + list(run.rglob("*.joblib"))


@pytest.mark.slow
def test_a_second_run_skips_it_and_a_lost_shard_is_made_again(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shard = copy / "forest" / "test" / "00000.array_record"
    before = shard.read_bytes()
    shard.unlink()
    said = ran(copy)
    assert "stage forest: 2 of 3 shards exist" in said
    assert "stage logistic: done before" in said
    assert shard.read_bytes() == before


def stage(tmp_path, **own):
    whole = load.read(CLASSIFIERS)
    for key, value in own.items():
        whole["stages"]["forest"][key] = value
    whole["stages"] = {"forest": whole["stages"]["forest"]}
    return pipeline.prepare(load.stages(whole), tmp_path)["forest"]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (dict(sklearn=dict(name="forrest")), "Did you mean 'forest'"),
        (dict(sklearn=dict(name="sklearn.ensemble.Forest")), "has no attribute 'Forest'"),
        (dict(sklearn=dict(name="sklearn.svm.LinearSVC")), "must have fit and predict_proba"),
        (dict(sklearn=dict(settings=dict(n_estimator=3))), "Did you mean 'n_estimators'"),
        (dict(sklearn=dict(min_probability=0.5)), r"min_probability must be in \[1e-30, 0.1\], got 0.5"),
        (dict(cache=dict(taps=("pooled",))), "tap must be an existing name, got 'pooled'"),
        (dict(cache=dict(views=2)), "would all be the same"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(tmp_path, own, message):
    with pytest.raises(UserError, match=message):
        stage(tmp_path, **own)


def test_data_that_cannot_be_fitted_are_refused(tmp_path):
    data = dict(unlabelled=True)
    with pytest.raises(UserError, match="no label is visible"):
        classifier.fit(stage(tmp_path, data=data), None)
    one = stage(tmp_path, data=dict(classes=("3",)), sklearn=dict(name="logistic"))
    with pytest.raises(UserError, match="'logistic' cannot be fitted"):
        classifier.fit(one, classifier.make_classifier(one))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*classifier.NAMED])
def test_each_named_classifier_has_probabilities(tmp_path, name):
    made = classifier.make_classifier(stage(tmp_path, sklearn=dict(name=name)))
    x, y = rows(datasets.load("digits").split("train"))
    few = np.flatnonzero(y < 4)[:120]
    if name == "boosting":
        made.set_params(max_iter=5)
    logs = classifier.log_probabilities(made.fit(x[few], y[few]), x[few], 10, 1e-4)
    np.testing.assert_allclose(np.exp(logs[:, :4]).sum(-1), 1, atol=2e-3)
    assert (logs[:, 4:] == np.float32(np.log(1e-4))).all()
    assert (logs.argmax(-1) == y[few]).mean() > 0.8


def test_probabilities_below_the_minimum_are_raised_and_no_others():
    class Says:
        classes_ = np.array([3, 1])

        def predict_proba(self, x):
            return np.array([[0.0, 1.0], [0.96, 0.04], [0.5, 0.5]])

    logs = classifier.log_probabilities(Says(), np.zeros((3, 2, 2, 1)), 4, 0.05)
    expected = [[0.05, 1, 0.05, 0.05], [0.05, 0.05, 0.05, 0.96], [0.05, 0.5, 0.05, 0.5]]
    np.testing.assert_allclose(logs, np.log(expected), rtol=1e-6)


def test_it_predicts_the_augmented_images(tmp_path):
    """Each view of an example is another image, the same whoever asks."""
    one = stage(tmp_path, data=dict(augment=("pad_crop:1",)), cache=dict(views=3))

    class Sees:
        classes_ = np.arange(10)

        def predict_proba(self, x):
            return 0.01 + 0.9 * x[:, 20:30]

    index, view = np.array([4, 4, 4, 7], np.int32), np.array([0, 1, 2, 2], np.int32)
    said = classifier.class_outputs(one, Sees())("train", index, view)["logits"]
    raw = {
        "image": one.data.dataset.split("train").image[index],
        "label": np.zeros(4, np.int32),
        "index": index,
        "view": view,
    }
    spec = one.data.task.image_spec
    seen = one.data.augment(raw | {"mask": np.ones(4, np.float32)})["image"] * spec.std[0] + spec.mean[0]
    expected = np.log(0.01 + 0.9 * np.asarray(seen).reshape(4, -1)[:, 20:30])
    np.testing.assert_allclose(said, expected, atol=1e-4)
    assert (said[0] != said[1]).any()


def fit_table(tmp_path, classifier_name, **data):
    keys = dict(data=data, networks={}, stages=dict(fit=dict(kind="sklearn", sklearn=dict(name=classifier_name))))
    stage = pipeline.prepare(load.stages(keys), tmp_path)["fit"]
    return stage, classifier.fit(stage, classifier.make_classifier(stage))


def test_features_are_fitted_as_the_transforms_make_them(tmp_path):
    data = dict(name="breast_cancer", transforms=("standardize",), partition=dict(of=3, part=1))
    stage, svm = fit_table(tmp_path, "logistic", **data)
    split = datasets.load("breast_cancer", transforms=("standardize",)).split("train")
    mine = subsets.partition(split.labels(), 3, "iid", concentration=0.5, seed=0)[1]
    expected = LogisticRegression(random_state=0).fit(split.features[mine], split.label[mine])
    np.testing.assert_allclose(svm.coef_, expected.coef_)
    predict = classifier.class_outputs(stage, svm)
    index = np.array([5, 2], np.int32)
    logits = predict("train", index, np.zeros(2, np.int32))["logits"]
    np.testing.assert_allclose(np.exp(logits.astype(float)), expected.predict_proba(split.features[index]), atol=1e-5)


def test_sparse_features_are_fitted_sparse(tmp_path, monkeypatch):
    path = tmp_path / "news.csv"
    path.write_text(
        "text,kind\n" + "".join(f"{word} of {row},{word}\n" for row in range(20) for word in ("war", "goal"))
    )
    monkeypatch.setattr(classifier, "_to_rows", lambda batch: pytest.fail("features must not become dense for a fit"))
    data = dict(name="table", path=str(path), label="kind", transforms=("tfidf:50",), labels_per_class=8)
    stage, svm = fit_table(tmp_path, "logistic", **data)
    test = stage.data.dataset.split("test")
    assert svm.score(test.features, test.label) == 1
    assert not stage.data.is_resident("train")


def test_targets_are_not_classified(tmp_path):
    with pytest.raises(UserError, match=r"must have images or features with classes, got 'diabetes' .*\(task 'regress"):
        fit_table(tmp_path, "forest", name="diabetes", transforms=("standardize",))
