"""Evaluation: whatever the batch and the mesh, the numbers are those of the whole split."""

import jax
import numpy as np
import pytest

import toys
from jaxdistill import metrics
from jaxdistill.data import dataset, loader
from jaxdistill.data.routes import WithRoute
from jaxdistill.networks import Ensemble, Frozen, dependencies, in_order
from jaxdistill.train import mesh as sharding
from jaxdistill.train.evaluate import RESULT_BYTES, Evaluator, Plan

ROWS = 21
ROUTE = (np.arange(ROWS) // 4 % 3).astype(np.int32)
NETWORKS = in_order(
    {
        "teacher": Frozen(toys.Net(width=9, norm=True)),
        "student": Frozen(toys.Net(norm=True, dropout=0.5)),
        "both": Ensemble(("teacher", "student")),
    }
)
NAMES = ("accuracy", "nll", "ece", "f1", "agreement", "confusion")


class First:
    """Rows with an axis of their own, whose summary is a median, which no sums give."""

    name = "first"

    def rows(self, output, batch):
        return {"logits": output.logits}

    def summarize(self, rows):
        return np.median(rows["logits"], 0)


class Median:
    needs_reference, gather = False, First()

    def finish(self, summary):
        return float(summary[0])


def split():
    data = toys.batch(ROWS, seed=3)
    return dataset.Arrays(np.asarray(data["image"]), np.asarray(data["label"], np.int32))


def variables():
    x = split().image
    return {name: NETWORKS[name].module.init(jax.random.key(i), x) for i, name in enumerate(("teacher", "student"))}


def evaluate(batch, devices=1, reference="teacher", pairs=(), pieces="", result_bytes=RESULT_BYTES, routes=()):
    """Measures batch by batch; or a resident split, in "one" piece or in "some"."""
    examples = WithRoute(split(), ROUTE) if routes else split()
    mesh = sharding.make_mesh({"data": devices}, jax.devices()[:devices])
    plan = Plan(
        networks=NETWORKS,
        names=["teacher", "student", "both"],
        metrics={name: metrics.METRICS[name] for name in NAMES} | {"median": Median()},
        prepare=lambda batch: batch,
        predict=lambda output, batch: {
            "prediction": output.logits.argmax(-1),
            "confidence": jax.nn.softmax(output.logits).max(-1),
            "logits": output.logits,
        },
        reference=reference,
        pairs=pairs,
        routes=routes,
    )
    evaluator = Evaluator(plan.step, mesh, result_bytes, truth=("image",))
    weights = {}, {}, jax.device_put(variables(), sharding.replicated(mesh))
    batches = loader.iterate_once(examples, batch, toys.CLASSES)
    if not pieces:
        return plan.finish(*evaluator.evaluate(weights, evaluator.stream(batches)))
    resident = evaluator.to_device(weights, batches)
    assert (len(resident) == 1) == (pieces == "one")
    return plan.finish(*evaluator.evaluate(weights, resident))


def test_by_hand():
    found = evaluate(ROWS)
    x, label = split().image, split().label
    logits = {name: np.asarray(NETWORKS[name].module.apply(v, x).logits) for name, v in variables().items()}
    for name in logits:
        right = (logits[name].argmax(-1) == label).mean()
        np.testing.assert_allclose(found.values[name]["accuracy"], right, rtol=1e-6)
        np.testing.assert_array_equal(found.predictions[name]["prediction"], logits[name].argmax(-1))
        np.testing.assert_allclose(found.predictions[name]["logits"], logits[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.values[name]["median"], np.median(logits[name][:, 0]), rtol=1e-5)
        np.testing.assert_allclose(found.gathered[name]["first"]["logits"], logits[name], rtol=1e-5, atol=1e-6)
    same = (logits["student"].argmax(-1) == logits["teacher"].argmax(-1)).mean()
    np.testing.assert_allclose(found.values["student"]["agreement"], same, rtol=1e-6)
    np.testing.assert_array_equal(found.label, label)
    np.testing.assert_array_equal(found.truth["image"], x)


@pytest.mark.parametrize(("batch", "devices"), [(1, 1), (4, 1), (8, 8), (20, 4), (64, 1)])
def test_any_batch_on_any_mesh(batch, devices):
    expected, found = evaluate(ROWS), evaluate(batch, devices)
    for name, values in expected.values.items():
        for metric, value in values.items():
            np.testing.assert_allclose(found.values[name][metric], value, rtol=1e-5, err_msg=f"{name} {metric}")
        np.testing.assert_array_equal(found.predictions[name]["prediction"], expected.predictions[name]["prediction"])
    np.testing.assert_array_equal(found.index, np.arange(ROWS))


@pytest.mark.parametrize(("batch", "devices", "pieces"), [(8, 8, "one"), (20, 1, "one"), (8, 1, "some")])
def test_a_resident_split_is_measured_in_one_dispatch(batch, devices, pieces):
    """Large results are split over several dispatches; here the second one is filled up."""
    size = {"one": RESULT_BYTES, "some": 2500}[pieces]
    found = evaluate(batch, devices, pairs=[("student", "both")], pieces=pieces, result_bytes=size)
    expected = evaluate(ROWS)
    for name, values in expected.values.items():
        for metric, value in values.items():
            np.testing.assert_allclose(found.values[name][metric], value, rtol=1e-5, err_msg=f"{name} {metric}")
        assert found.predictions[name].keys() == expected.predictions[name].keys()
        for key in ("prediction", "confidence"):
            np.testing.assert_allclose(found.predictions[name][key], expected.predictions[name][key], rtol=1e-6)
    assert [*found.pairs] == [("student", "both")]
    np.testing.assert_array_equal(found.index, np.arange(ROWS))
    np.testing.assert_array_equal(found.label, expected.label)


def test_pairs_are_compared_beside_the_reference_in_the_same_pass():
    found = evaluate(8, reference="student", pairs=[("teacher", "both"), ("teacher", "student")])
    said = {name: predicted["prediction"] for name, predicted in found.predictions.items()}
    for pair in (("teacher", "both"), ("teacher", "student")):
        same = (said[pair[0]] == said[pair[1]]).mean()
        assert found.pairs[pair] == {"agreement": pytest.approx(same, rel=1e-6)}
    assert found.values["teacher"]["agreement"] == found.pairs["teacher", "student"]["agreement"]
    assert found.values["student"]["agreement"] == 1.0


def test_without_a_reference_only_pairs_are_compared():
    found = evaluate(8, reference="", pairs=[("student", "teacher")])
    assert [*found.pairs] == [("student", "teacher")]
    assert set(NAMES) - set(found.values["student"]) == {"agreement"}


def test_only_needed_networks_run():
    assert list(dependencies(NETWORKS, ["student"])) == ["student"]
    assert set(dependencies(NETWORKS, ["both"])) == {"teacher", "student", "both"}


@pytest.mark.parametrize(
    ("batch", "devices", "pieces"), [(4, 4, ""), pytest.param(8, 8, "some", marks=pytest.mark.slow)]
)
def test_parts_by_a_column(batch, devices, pieces):
    """Those of the examples that have a value, whatever the last batch is filled up with."""
    whole = evaluate(
        batch, devices, pairs=[("student", "both")], pieces=pieces, result_bytes=4000, routes=tuple("abcd")
    )
    assert [*whole.parts] == ["a", "b", "c"]
    logits = {name: gathered["first"]["logits"] for name, gathered in whole.gathered.items()}
    for number, part in enumerate(whole.parts.values()):
        chosen = number == ROUTE
        np.testing.assert_array_equal(part.index, np.flatnonzero(chosen))
        best = {name: x[chosen].argmax(-1) for name, x in logits.items()}
        for name, x in logits.items():
            log_probs = np.array(jax.nn.log_softmax(x[chosen]))
            nll = -np.take_along_axis(log_probs, whole.label[chosen][:, None], 1).mean()
            np.testing.assert_allclose(part.values[name]["accuracy"], (best[name] == whole.label[chosen]).mean())
            np.testing.assert_allclose(part.values[name]["nll"], nll, rtol=1e-5)
            np.testing.assert_allclose(part.values[name]["agreement"], (best[name] == best["teacher"]).mean())
            np.testing.assert_allclose(part.values[name]["median"], np.median(x[chosen][:, 0]), rtol=1e-6)
            assert "confusion" not in part.values[name]
        agreement = (best["student"] == best["both"]).mean()
        np.testing.assert_allclose(part.pairs["student", "both"]["agreement"], agreement)
    assert evaluate(batch, devices).parts == {}
