"""Images and texts with several labels or numbers to be predicted, from the files to the stage, and a short run."""

import numpy as np
import pytest
from PIL import Image

import jaxdistill
from jaxdistill.build.notes import notes
from jaxdistill.config import load
from jaxdistill.data import datasets
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run
from tokenizer_files import write_wordpiece

NETWORK = dict(source="trained", model="mlp", widths=(16,))
LABELS = dict(labels=("red", "dark"))
TERMS = dict(task=dict(method="binary_cross_entropy"), kd=dict(method="multi_label", temperature=2.0))
TERMS |= dict(teach=dict(method="binary_cross_entropy", student="teacher"))
METRICS = ("average_precision", "macro_f1", "binary_kl")
OF_TARGETS = dict(
    task=dict(method="gaussian_likelihood"),
    teach=dict(method="gaussian_likelihood", student="teacher"),
    kd=dict(method="gaussian_kl"),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Images of two by two pixels, of which the red value and the blue one are the labels and the targets."""
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    lines = ["file,red,dark,tags,warmth,depth"]
    for number in range(60):
        red, blue = draw.integers(0, 256, 2)
        Image.new("RGB", (2, 2), (int(red), 0, int(blue))).save(folder / f"{number}.png")
        flags = {"red": int(red > 127), "dark": int(blue < 128)}
        tags = "|".join(name for name, flag in flags.items() if flag)
        lines.append(f"{number}.png,{flags['red']},{flags['dark']},{tags},{red / 10},{blue * 100}")
    (folder / "all.csv").write_text("\n".join(lines))
    return str(folder / "all.csv")


def build(folder, path, data=LABELS, **changes):
    keys = dict(
        data=dict(name="images", path=path) | data,
        batch=16,
        steps=2,
        networks=dict(student=NETWORK, teacher=NETWORK),
        terms=TERMS,
        evaluate=dict(metrics=METRICS),
    )
    return run.prepare(load.stages(keys | changes), folder)["train"]


def test_labels_of_images_are_a_task_of_their_own(table, tmp_path):
    stage = build(tmp_path, table, LABELS | dict(augment=("mixup:0.2",)))
    assert stage.data.task.name == "multi_label"
    assert stage.data.dataset.class_names == ("red", "dark")
    assert stage.shapes.outputs["student"].logits.shape == (16, 2)
    assert stage.evaluation.ranking[0] == "student/average_precision"
    assert notes(stage, tmp_path) == []
    other = build(tmp_path, table, dict(labels=("tags",)), evaluate={})
    assert other.data.dataset.class_names == ("dark", "red")
    assert [*other.evaluation.metrics] == ["average_precision", "auroc"]
    raw = next(stage.data.loader().step_inputs(0, 1))
    raw = stage.data.loader().make_batch(stage.data.loader().resident, raw)
    labels = stage.data.augment(raw)["labels"]
    assert ((labels > 0) & (labels < 1)).any()


def test_targets_of_images_are_regressed(table, tmp_path):
    changes = dict(terms=OF_TARGETS, evaluate=dict(metrics=("r2", "per_target", "auto")))
    stage = build(tmp_path, table, dict(targets=("warmth", "depth")), **changes)
    assert stage.data.task.name == "regression"
    assert stage.data.task.choices == "4 outputs for 2 targets"
    assert [*stage.evaluation.metrics] == ["r2", "per_target", "rmse", "mae"]
    assert stage.shapes.outputs["student"].logits.shape == (16, 4)
    assert stage.evaluation.metrics["r2"].scale == pytest.approx((7.5, 7500), rel=0.2)
    assert stage.data.batch["target"].shape == (16, 2)


def test_texts_have_labels_and_targets(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "good film", "tags": ["a", "b"], "stars": 4}\n' * 20)
    path = str(tmp_path / "a.jsonl")
    options = dict(name="text_rows", text="text", tokenizer=write_wordpiece(tmp_path / "w"), length=8)
    network = dict(source="trained", model="bag_of_embeddings", vocabulary=100)
    networks = dict(student=network, teacher=network)
    stage = build(tmp_path, path, options | dict(labels=("tags",)), networks=networks, batch=8)
    assert stage.data.task.name == "multi_label"
    assert stage.shapes.outputs["student"].logits.shape == (8, 2)
    dataset = datasets.read(datasets.DatasetSettings(path=path, targets=("stars",), **options))
    assert dataset.split("test").take(np.arange(1))["target"].tolist() == [[0]]


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (
            LABELS,
            dict(terms=dict(TERMS, kd=dict(method="kd"))),
            "must compare predictions of the form 'labels' .*'multi_label'",
        ),
        (LABELS, dict(terms=dict(TERMS, kd=dict(method="jacobian"))), "must compare predictions of the form 'labels'"),
        (LABELS, dict(terms=dict(TERMS, kd=dict(method="ifvd"))), "must compare predictions of the form 'labels'"),
        (LABELS, dict(evaluate=dict(metrics=("accuracy",))), "must be metrics of the task multi_label, got 'accuracy'"),
        (
            LABELS | dict(classes=("red",)),
            {},
            "data.classes must be .* for 'images', whose examples have no single class",
        ),
        (LABELS | dict(partition=dict(of=2, by="class")), {}, "data.partition.by must be 'iid' for 'images'"),
        (LABELS | dict(label="tags"), {}, "data must have one of .*, got"),
        (dict(labels=("tag",)), {}, "data.labels, the name of a column, must be one of .*, got 'tag'"),
        (
            dict(name="digits", path="", labels=("a", "b")),
            {},
            "data.labels must be .* for 'digits', which does not read",
        ),
        (
            LABELS,
            dict(
                networks=dict(student=NETWORK, teacher=NETWORK, both=dict(source="ensemble", of=("student", "teacher")))
            ),
            r"networks.both.average must be one of \('logits',\) for task 'multi_label', got 'probabilities'",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(table, tmp_path, data, changes, message):
    with pytest.raises(UserError, match=message):
        build(tmp_path, table, data, **changes)


@pytest.mark.slow
def test_labels_and_targets_are_learned_and_the_network_returns_them(table, tmp_path):
    def learn(name, data, terms, metrics):
        keys = dict(
            data=dict(name="images", path=table, **data),
            batch=16,
            steps=400,
            learning_rate=0.01,
            optimizer=dict(name="adam"),
            networks=dict(student=NETWORK, teacher=NETWORK),
            terms=terms,
            evaluate=dict(metrics=metrics),
            stages=dict(
                train={},
                evaluate=dict(
                    kind="evaluate",
                    networks={
                        name: dict(NETWORK, source="frozen", weights="stage:train") for name in ("student", "teacher")
                    },
                ),
            ),
        )
        run.run(load.stages(keys), tmp_path / name, lambda line: None)
        return jaxdistill.load(tmp_path / name, "student")

    image = np.zeros((2, 2, 2, 3), np.uint8)
    image[0, ..., 0], image[1, ..., 2] = 200, 200
    labels = learn("labels", LABELS, TERMS, METRICS).probabilities(image)
    np.testing.assert_allclose(labels, [[1, 1], [0, 0]], atol=0.1)
    targets = dict(targets=("warmth", "depth"))
    numbers = learn("targets", targets, OF_TARGETS, ("r2", "gaussian_kl")).numbers(image)
    np.testing.assert_allclose(numbers / [1, 1000], [[20, 0], [0, 20]], atol=1.5)
    keys = dict(
        data=dict(name="images", path=table, targets=("depth", "warmth")),
        batch=16,
        networks=dict(student=dict(NETWORK, source="frozen", weights=str(tmp_path / "targets" / "train"))),
        stages=dict(evaluate=dict(kind="evaluate", evaluate=dict(metrics=("r2",)))),
    )
    with pytest.raises(UserError, match="must be of a network that predicts the data's targets, depth"):
        run.prepare(load.stages(keys), tmp_path / "other")
