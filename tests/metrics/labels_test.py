"""Metrics of several labels against scikit-learn, with missing labels and hidden examples left out."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn

from jaxdistill.core import Output
from jaxdistill.metrics import METRICS
from jaxdistill.metrics.metric import GatheringMetric

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(40, 3)).round(1).astype(np.float32)  # some are equal
LABELS = (RANDOM.random((40, 3)) < 0.3 + 0.4 * (LOGITS > 0)).astype(np.float32)
OUTPUT, REFERENCE = Output(jnp.array(LOGITS)), Output(jnp.array(LOGITS[::-1]))
DECISION, OTHER = LOGITS > 0, LOGITS[::-1] > 0
PROBABILITY, REFERENCE_PROBABILITY = (1 / (1 + np.exp(-x.astype(np.float64))) for x in (LOGITS, LOGITS[::-1]))


def binary_kl(p, q):
    return np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


EXPECTED = {
    "average_precision": sklearn.average_precision_score(LABELS, LOGITS),
    "auroc": sklearn.roc_auc_score(LABELS, LOGITS),
    "macro_f1": sklearn.f1_score(LABELS, DECISION, average="macro"),
    "micro_f1": sklearn.f1_score(LABELS, DECISION, average="micro"),
    "subset_accuracy": sklearn.accuracy_score(LABELS, DECISION),
    "label_accuracy": 1 - sklearn.hamming_loss(LABELS, DECISION),
    "binary_nll": sklearn.log_loss(LABELS.ravel(), PROBABILITY.ravel()),
    "label_agreement": np.mean(DECISION == OTHER),
    "binary_kl": binary_kl(REFERENCE_PROBABILITY, PROBABILITY),
}


def value(name, output=OUTPUT, labels=LABELS, label=None, reference=REFERENCE):
    metric, rows = METRICS[name], len(labels)
    label = np.zeros(rows, int) if label is None else label
    batch = {"labels": jnp.array(labels), "label": jnp.array(label), "mask": jnp.ones(rows), "valid": jnp.ones(rows)}
    if isinstance(metric, GatheringMetric):
        gathered = {name: np.asarray(x) for name, x in metric.gather.rows(output, batch).items()}
        return metric.finish(metric.gather.summarize(gathered))
    return metric.finish(metric.sums(output, batch, reference))


@pytest.mark.parametrize("name", EXPECTED)
def test_values_are_those_of_scikit_learn(name):
    assert value(name) == pytest.approx(EXPECTED[name], rel=1e-5)


@pytest.mark.parametrize("name", [name for name in EXPECTED if METRICS[name].needs_labels])
def test_missing_labels_and_hidden_examples_do_not_count(name):
    labels, label = np.where(RANDOM.random(LABELS.shape) < 0.2, np.nan, LABELS), np.where(np.arange(40) < 8, -1, 0)
    seen = value(name, labels=labels, label=label)
    flipped = np.where(np.isnan(labels) | (label < 0)[:, None], 1 - LABELS, LABELS)
    assert seen != pytest.approx(value(name, labels=flipped), rel=1e-3)
    assert seen == pytest.approx(value(name, Output(OUTPUT.logits[8:]), labels[8:]))


def test_a_class_without_positives_has_no_average_precision():
    labels = np.where(np.arange(3) == 1, 0, LABELS)
    table = value("per_label", labels=labels)
    assert table["average_precision"][1] is None
    assert table["auroc"][1] is None
    assert table["examples"] == labels.sum(0).astype(int).tolist()
    assert value("average_precision", labels=labels) == pytest.approx(
        np.mean([table["average_precision"][i] for i in (0, 2)])
    )
    assert table["f1"] == pytest.approx(sklearn.f1_score(labels, DECISION, average=None))


@pytest.mark.parametrize("name", ["subset_accuracy", "label_accuracy", "binary_nll"])
def test_scores_of_examples_have_the_metric_as_their_mean(name):
    is_missing = np.random.default_rng(1).random(LABELS.shape) < [0, 0.3, 0.3]
    labels, label = np.where(is_missing, np.nan, LABELS), np.where(np.arange(40) < 8, -1, 0)
    scores = METRICS[name].score({"labels": labels, "label": label, "logits": LOGITS})
    assert np.isnan(scores).tolist() == (label < 0).tolist()
    assert np.nanmean(scores) == pytest.approx(value(name, labels=labels, label=label), rel=1e-5)
