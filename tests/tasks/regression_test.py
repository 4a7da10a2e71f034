"""Regression: the numbers of a prediction, units of metrics, and what is refused."""

import numpy as np
import pytest

from jaxdistill.config import load
from jaxdistill.errors import UserError
from jaxdistill.pipeline import plan, run

LIKELIHOOD = dict(method="gaussian_likelihood")
NETWORK = dict(source="trained", model="mlp", widths=(4,))


def build(tmp_path, **changes):
    keys = dict(
        data=dict(name="diabetes", transforms=("standardize",)),
        steps=2,
        networks=dict(student=NETWORK, teacher=NETWORK),
        terms=dict(
            task=dict(method="gaussian_likelihood"), other=dict(method="gaussian_likelihood", student="teacher")
        ),
        evaluate=dict(metrics=("rmse", "gaussian_nll")),
    )
    return run.prepare(load.stages(keys | changes), tmp_path)["train"]


def test_a_network_outputs_mean_and_log_variance_and_errors_are_in_units_of_the_target(tmp_path):
    stage = build(tmp_path)
    assert stage.data.task.name == "regression"
    assert stage.shapes.outputs["student"].logits.shape == (128, 2)
    assert ", 2 outputs for 1 target, " in plan.describe(stage)[1]
    assert stage.evaluation.metrics["rmse"].scale == pytest.approx((74.98,), abs=0.01)
    assert {*stage.data.batch} == {"features", "label", "target", "valid", "index", "view", "mask"}


def test_quantiles_are_another_task(tmp_path):
    terms = dict(task=dict(method="quantile_regression"), kd=dict(method="quantile_distillation"))
    terms |= dict(other=dict(method="quantile_regression", student="teacher"))
    stage = build(tmp_path, task="quantile_regression", terms=terms, evaluate=dict(metrics=("rmse", "pinball")))
    assert stage.shapes.outputs["student"].logits.shape == (128, 9)
    assert stage.evaluation.metrics["rmse"].form == "quantiles"


def test_hidden_targets_have_no_label_and_do_not_count(tmp_path):
    data = dict(name="diabetes", subset=dict(count=50), labels_per_class=10)
    label = build(tmp_path, data=data).data.train.labels()
    assert (label == 0).sum() == 10
    assert (label == -1).sum() == 40


MEAN = dict(mean=dict(source="ensemble", of=("student", "teacher")))
MISTAKES = [
    (
        dict(
            terms=dict(task=dict(method="cross_entropy"), other=dict(method="gaussian_likelihood", student="teacher"))
        ),
        r"terms.task.method must compare predictions of the form 'gaussian' \(task 'regression'\), got CrossEntropy",
    ),
    (dict(task="quantile_regression"), "must compare predictions of the form 'quantiles'.*got GaussianLikelihood"),
    (dict(evaluate=dict(metrics=("accuracy",))), "must be metrics of the task regression, got 'accuracy'"),
    (dict(networks=dict(student=NETWORK, teacher=NETWORK | {"classes": 1})), "'teacher' has 1 classes, the data 2"),
    (dict(networks=dict(student=NETWORK, teacher=NETWORK) | MEAN), "networks.mean.average must be one of .*'gaussian'"),
    (dict(data=dict(name="wine")), "must compare predictions of the form 'classes'.*got GaussianLikelihood"),
    (dict(data=dict(name="diabetes", augment=("flip",))), "data.augment=.* is of images, and 'diabetes' has a table"),
    (
        dict(networks=dict(student=dict(source="trained", model="cifar_resnet"), teacher=NETWORK)),
        r"student.model must take 'features', .*, got 'cifar_resnet', which takes 'image'. Use .* models \['mlp'\]",
    ),
    (dict(networks=dict(student=NETWORK | {"preprocess": dict(size=3)}, teacher=NETWORK)), "'diabetes' has features"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=lambda x: str(x)[:60])
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        build(tmp_path, **changes)


def test_a_table_is_classified(tmp_path):
    data = dict(name="wine", transforms=("standardize",))
    terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd"))
    terms |= dict(other=dict(method="cross_entropy", student="teacher"))
    stage = build(tmp_path, data=data, terms=terms, evaluate=dict(metrics=("accuracy",)))
    assert stage.data.task.name == "table_classification"
    assert stage.shapes.outputs["student"].logits.shape == (128, 3)
    batch = next(stage.data.batches("test"))
    np.testing.assert_array_equal(batch["features"][0], stage.data.dataset.split("test").features[0])


@pytest.mark.slow
def test_a_network_reads_new_rows_through_the_featurizer_of_its_stage(tmp_path):
    (tmp_path / "new.csv").write_text("a,b,y\n" + "".join(f"{x},{x % 3},{2 * x}\n" for x in range(20)))
    data = dict(name="table", path=str(tmp_path / "new.csv"), target="y", transforms=("standardize",))
    task = dict(task=dict(method="gaussian_likelihood"))
    keys = dict(
        steps=2, batch=8, data=data, networks=dict(student=NETWORK), terms=task, evaluate=dict(metrics=("rmse",))
    )
    run.run(load.stages(keys), tmp_path / "run", lambda line: None)
    folder = str(tmp_path / "run" / "train")
    frozen = NETWORK | dict(source="frozen", weights=folder)
    evaluate = dict(kind="evaluate", evaluate=dict(split="train", metrics=("rmse",)))
    few = data | dict(splits=dict(train="[:50%]"))
    keys = dict(batch=8, networks=dict(student=frozen), stages=dict(evaluate=evaluate))
    with pytest.raises(UserError, match="weights must be of a network that reads the data's features"):
        run.prepare(load.stages(keys | dict(data=few)), tmp_path / "other")
    few |= dict(transforms=(), featurizer=folder)
    stage = run.prepare(load.stages(keys | dict(data=few)), tmp_path / "same")["evaluate"]
    first = stage.data.dataset.split("train").features[:, 0]
    assert (first[1] - first[0]) == pytest.approx(1 / np.std(_training_values()), rel=1e-4)


def _training_values():
    return np.random.RandomState(0).permutation(20)[:12]


def test_the_plan_counts_shown_targets_without_classes(tmp_path):
    stage = build(tmp_path, data=dict(name="diabetes", transforms=("standardize",), labels_per_class=40))
    assert plan.describe(stage)[1].endswith(", 40 targets")
