import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core, metrics

NAMES = [
    name
    for name, metric in metrics.METRICS.items()
    if metric.needs_reference and metric.better and getattr(metric, "predictions", "classes") == "classes"
]
NAMES += ["copied_errors"]


def sums_of(name, student, teacher, label, mask=None):
    mask = np.ones(len(label)) if mask is None else mask
    batch = {"label": jnp.asarray(label, jnp.int32), "mask": jnp.asarray(mask, jnp.float32)}
    outputs = [core.Output(jnp.asarray(logits, jnp.float32)) for logits in (student, teacher)]
    sums = jax.jit(metrics.METRICS[name].sums)(outputs[0], batch, outputs[1])
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), sums)


def value(name, student, teacher, label=None, mask=None):
    label = np.zeros(len(student)) if label is None else label
    return metrics.METRICS[name].finish(sums_of(name, student, teacher, label, mask))


@pytest.fixture(scope="module")
def random():
    rng = np.random.default_rng(0)
    teacher = 2 * rng.normal(size=(64, 7))
    return teacher + rng.normal(size=(64, 7)), teacher, rng.integers(0, 7, size=64)


def softmax(logits):
    p = np.exp(logits)
    return p / p.sum(-1, keepdims=True)


def test_agreement_by_hand_needs_no_labels():
    student = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    teacher = [[9, 8, 7], [0, 1, 0], [1, 0, 0], [2, 1, 0]]
    assert value("agreement", student, teacher, [core.UNLABELLED] * 4) == 0.75


def test_overlap_by_hand():
    teacher = [[9, 8, 7, 6, 5, 4, 3]] * 2
    student = [[3, 4, 5, 6, 7, 8, 9], [5, 6, 7, 8, 9, 0, 1]]  # shares classes 2, 3 and 4; the same five, turned round
    assert value("overlap5", student, teacher) == pytest.approx((3 / 5 + 1) / 2)
    assert value("overlap5", [[0, 1, 2]], [[2, 1, 0]]) == 1.0


def test_covered_mass_by_hand():
    teacher = [np.log([0.4, 0.2, 0.15, 0.1, 0.08, 0.05, 0.02])] * 2
    student = [[0, 1, 2, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4, 3]]  # the last five classes, and the first five
    assert value("covered5", student, teacher) == pytest.approx((0.4 + 0.93) / 2)
    assert value("covered5", [[0, 1, 2]], [[2, 1, 0]]) == pytest.approx(1.0)


def test_kl_is_that_of_the_network_from_the_reference(random):
    student, teacher, _ = random
    p, q = softmax(teacher), softmax(student)
    assert value("kl", student, teacher) == pytest.approx(np.mean(np.sum(p * np.log(p / q), -1)), rel=1e-5)
    assert value("kl", [[0.0, 1e4]], [[1e4, 0.0]]) == pytest.approx(1e4)


def test_gap_in_calibration_is_the_difference_of_two_errors(random):
    student, teacher, label = random
    ece = metrics.METRICS["ece"]

    def alone(logits):
        batch = {"label": jnp.asarray(label, jnp.int32), "mask": jnp.ones(64)}
        return ece.finish(jax.tree.map(np.float64, ece.sums(core.Output(jnp.float32(logits)), batch)))

    expected = alone(3 * student) - alone(teacher)
    assert value("ece_gap", 3 * student, teacher, label) == pytest.approx(expected, abs=1e-6)
    assert expected > 0.01


def test_where_the_reference_errs_by_hand():
    label = [0, 1, 2, 0, 1, 2, 0]
    teacher = np.eye(3)[[0, 1, 2, 1, 0, 1, 2]]  # wrong on the last four
    student = np.eye(3)[[0, 0, 2, 1, 1, 0, 2]]  # copies two of them, errs otherwise on one, and finds one
    assert value("copied_errors", student, teacher, label) == 2 / 4
    assert value("accuracy_where_right", student, teacher, label) == 2 / 3
    assert value("accuracy_where_wrong", student, teacher, label) == 1 / 4


def test_a_reference_without_errors_leaves_nothing_to_copy():
    assert np.isnan(value("copied_errors", [[0, 1]], [[1, 0]], [0]))
    assert np.isnan(value("accuracy_where_wrong", [[0, 1]], [[1, 0]], [0]))


@pytest.mark.parametrize("name", NAMES)
def test_padding_does_not_count_and_unlabelled_rows_only_without_labels(name, random):
    student, teacher, label = random
    junk = np.full((2, 7), np.nan)
    hidden = 5 if metrics.METRICS[name].needs_labels else 0
    padded = [np.concatenate([logits, junk, logits[:hidden]]) for logits in (student, teacher)]
    labels = np.concatenate([label, [0, 0], [core.UNLABELLED] * hidden])
    mask = np.concatenate([np.ones(64), np.zeros(2), np.ones(hidden)])
    assert value(name, *padded, labels, mask) == pytest.approx(value(name, student, teacher, label), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_sums_of_batches_add_up(name, random):
    student, teacher, label = random
    parts = [sums_of(name, student[rows], teacher[rows], label[rows]) for rows in (slice(0, 20), slice(20, 64))]
    merged = metrics.METRICS[name].finish(jax.tree.map(np.add, *parts))
    assert merged == pytest.approx(value(name, student, teacher, label), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_an_empty_split_is_nan(name):
    assert np.isnan(value(name, np.zeros((2, 7)), np.zeros((2, 7)), [0, 1], mask=np.zeros(2)))


def test_comparisons_declare_their_needs():
    for name, metric in metrics.METRICS.items():
        assert hasattr(metric, "same_classes") == metric.needs_reference, name
    agreement = metrics.METRICS["agreement"]
    assert (agreement.needs_reference, agreement.needs_labels, agreement.better) == (True, False, "max")
