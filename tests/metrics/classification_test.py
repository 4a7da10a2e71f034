import json

import jax
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jaxdistill import core, metrics
from jaxdistill.config import registry
from jaxdistill.errors import UserError
from metric_values import draw_examples, sums_of, value


def plain(result):
    """Flattens a number or a table, with nan for what a table leaves empty."""
    leaves = jax.tree.leaves(result, is_leaf=lambda leaf: leaf is None)
    return np.asarray([np.nan if leaf is None else leaf for leaf in leaves], np.float64)


NEED_LABELS = [
    name
    for name, metric in metrics.METRICS.items()
    if metric.needs_labels and not metric.needs_reference and getattr(metric, "predictions", "classes") == "classes"
]


@pytest.fixture(scope="module")
def random():
    return draw_examples()


def test_unknown_metric_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'accuracy'"):
        registry.find("metric", "acuracy")


def test_accuracy_by_hand():
    assert value("accuracy", [[2, 1], [0, 1], [3, 0], [5, 4]], [0, 1, 1, 0]) == 0.75


def test_the_score_of_an_example_is_whether_it_is_right():
    arrays = {"label": np.array([0, 1, -1]), "prediction": np.array([0, 0, 0])}
    np.testing.assert_array_equal(metrics.METRICS["accuracy"].score(arrays), [1, 0, np.nan])


def test_top5_by_hand():
    logits = [[6, 5, 4, 3, 2, 1]] * 3
    assert value("top5", logits, [0, 4, 5]) == pytest.approx(2 / 3)


def test_top5_counts_only_strictly_greater_logits():
    assert value("top5", [[1.0] * 6], [5]) == 1.0
    assert value("top5", [[2, 2, 2, 2, 2, 1]], [5]) == 0.0


def test_top5_is_one_below_five_classes():
    assert value("top5", [[4, 3, 2, 1]], [3]) == 1.0


def test_top5_does_not_find_a_nan():
    assert value("top5", [[np.nan] * 6], [0]) == 0.0


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_macro_scores_equal_scikit_learn(name, random):
    logits, label = random
    predicted = np.argmax(logits, -1)
    expected = getattr(sklearn_metrics, f"{name}_score")(label, predicted, average="macro", zero_division=0)
    assert value(name, logits, label) == pytest.approx(expected, abs=1e-12)


def test_scores_per_class_equal_scikit_learn(random):
    logits, label = random
    table = json.loads(json.dumps(value("per_class", logits, label)))
    expected = sklearn_metrics.precision_recall_fscore_support(
        label, np.argmax(logits, -1), labels=range(7), zero_division=0
    )
    for name, numbers in zip(("precision", "recall", "f1", "examples"), expected, strict=True):
        np.testing.assert_allclose(table[name], numbers, atol=1e-12, err_msg=name)


def test_macro_scores_leave_out_classes_that_occur_nowhere():
    logits = np.eye(9)[[0, 0, 1]]  # label 0 is found twice, once wrongly; classes 2 to 8 do not occur
    assert value("precision", logits, [0, 1, 1]) == pytest.approx((1 / 2 + 1) / 2)
    assert value("recall", logits, [0, 1, 1]) == pytest.approx((1 + 1 / 2) / 2)


def test_nll_equals_scikit_learn(random):
    logits, label = random
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = sklearn_metrics.log_loss(label, p, labels=range(7))
    assert value("nll", logits, label) == pytest.approx(expected, rel=1e-6)


def test_nll_is_finite_for_huge_gaps():
    assert value("nll", [[1e4, 0.0]], [1]) == pytest.approx(1e4)


def test_confusion_equals_scikit_learn(random):
    logits, label = random
    table = value("confusion", logits, label)
    expected = sklearn_metrics.confusion_matrix(label, np.argmax(logits, -1), labels=range(7))
    np.testing.assert_array_equal(table, expected)
    assert json.loads(json.dumps(table)) == expected.tolist()


@pytest.mark.parametrize("name", NEED_LABELS)
def test_padding_and_unlabelled_rows_do_not_count(name, random):
    logits, label = random
    junk = np.full((2, 7), np.nan)  # whose argmax, 0, is its label
    padded = np.concatenate([logits, junk, logits[:5]])
    labels = np.concatenate([label, [0, 0], [core.UNLABELLED] * 5])
    mask = np.concatenate([np.ones(64), np.zeros(2), np.ones(5)])
    np.testing.assert_allclose(plain(value(name, padded, labels, mask)), plain(value(name, logits, label)), rtol=1e-6)


@pytest.mark.parametrize("name", NEED_LABELS)
def test_sums_of_batches_add_up(name, random):
    logits, label = random
    parts = [sums_of(name, logits[rows], label[rows]) for rows in (slice(0, 20), slice(20, 64))]
    merged = metrics.METRICS[name].finish(jax.tree.map(np.add, *parts))
    np.testing.assert_allclose(plain(merged), plain(value(name, logits, label)), rtol=1e-6)


@pytest.mark.parametrize("name", NEED_LABELS)
@pytest.mark.filterwarnings("error")
def test_an_empty_split_is_nan_or_zeros(name):
    result = value(name, np.zeros((2, 7)), [0, 1], mask=np.zeros(2))
    if metrics.METRICS[name].better is None:
        assert np.nansum(plain(result["count"] if name == "reliability" else result)) == 0
    else:
        assert np.isnan(result)
