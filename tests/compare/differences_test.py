"""Paired differences and their standard errors, over seeds and over examples."""

import math

import numpy as np
import pytest

from compared_runs import write_run
from jaxdistill.compare.differences import compare_experiments, compare_networks
from jaxdistill.compare.experiments import Experiment, group_members
from jaxdistill.compare.finished_run import read_run


def experiment(tmp_path, name, accuracies, **settings) -> Experiment:
    texts = [
        write_run(tmp_path / f"{name}{seed}", seed=seed, accuracy=value, **settings)
        for seed, value in enumerate(accuracies)
    ]
    [group] = group_members([read_run(text) for text in texts])
    return group


def found(items, network, metric, over):
    return next(item for item in items if (item.place[0], item.metric, item.over) == (network, metric, over))


def test_differences_over_seeds(tmp_path):
    first = experiment(tmp_path, "a", (0.5, 0.6, 0.7))
    second = experiment(tmp_path, "b", (0.6, 0.6, 0.9, 0.9), temperature=2.0)  # the fourth seed has no partner
    items = list(compare_experiments(first, second, ["accuracy", "nll"]))
    item = found(items, "distilled", "accuracy", "seeds")
    assert item.values == pytest.approx([0.1, 0.0, 0.2])
    assert (item.mean, item.error) == (pytest.approx(0.1), pytest.approx(0.1 / math.sqrt(3)))
    assert (item.side, item.base) == (second.name, first.name)
    assert found(items, "alone", "nll", "seeds").mean == 0


def test_differences_over_examples(tmp_path):
    first, second = experiment(tmp_path, "a", [0.5], right=2), experiment(tmp_path, "b", [0.5], right=4, batch=1)
    item = found(compare_experiments(first, second, ["accuracy"]), "distilled", "accuracy", "examples")
    assert item.values == [0, 0, 1, 1, 0]  # the sixth example has no label
    assert item.error == pytest.approx(math.sqrt(0.3 / 5))
    single = found(compare_experiments(first, second, ["accuracy"]), "distilled", "accuracy", "seeds")
    assert (len(single.values), single.error) == (1, None)


def test_networks_of_an_experiment(tmp_path):
    group = experiment(tmp_path, "a", (0.75, 1.0), right=5)
    items = list(compare_networks(group, [("distilled", "alone"), ("absent", "alone")], ["accuracy"]))
    assert found(items, "distilled", "accuracy", "seeds").values == [0.25, 0.5]
    assert found(items, "distilled", "accuracy", "examples").values == [0, 1, 1, 0, 1]  # `alone` predicts class 0
    assert {item.base for item in items} == {"alone"}


def test_other_examples_are_not_paired(tmp_path):
    first, second = experiment(tmp_path, "a", [0.5]), experiment(tmp_path, "b", [0.5], temperature=1.0)
    arrays = second.members[0].run.predictions("")
    arrays["index"] = arrays["index"][::-1]
    assert {item.over for item in compare_experiments(first, second, ["accuracy"])} == {"seeds"}


def test_scores_of_several_metrics_are_paired_where_the_numbers_are_those_of_the_data(tmp_path):
    """Targets of two runs differ in the rounding of their standardisation."""
    first, second = experiment(tmp_path, "a", [0.5]), experiment(tmp_path, "b", [0.5], temperature=1.0)
    for group, shift in ((first, 0.0), (second, 1.0)):
        arrays = group.members[0].run.predictions("")
        arrays["target"] = np.array([1e6, 1e-3, np.nan]) * (1 + 1e-7 * shift)
        arrays["score/rmse/distilled"] = np.array([1.0, 2.0 + shift, np.nan])
    item = found(compare_experiments(first, second, ["nll"]), "distilled", "rmse", "examples")
    assert (item.values, item.error) == ([0, 1], 0.5)
    arrays["target"][0] *= 1.001
    assert {item.over for item in compare_experiments(first, second, ["nll"])} == {"seeds"}


def test_a_network_without_finite_scores_for_one_seed_is_not_paired(tmp_path):
    first, second = experiment(tmp_path, "a", (0.5, 0.5)), experiment(tmp_path, "b", (0.5, 0.5), temperature=1.0)
    for group in (first, second):
        for member in group.members:
            member.run.predictions("")["score/rmse/distilled"] = np.array([1.0, 2.0, np.nan])
    second.members[1].run.predictions("")["score/rmse/distilled"] = np.full(3, np.nan)
    items = [*compare_experiments(first, second, ["accuracy"])]
    assert {item.metric for item in items} == {"accuracy"}
    assert len(found(items, "distilled", "accuracy", "examples").values) == 5


def test_scores_of_runs_of_earlier_versions(tmp_path):
    """They stored classes alone."""
    items = {}
    for version in ("scored", "classes"):
        groups = [experiment(tmp_path, version + side, [0.5], right=right) for side, right in (("a", 2), ("b", 4))]
        for group in groups if version == "classes" else ():
            path = tmp_path / group.members[0].run.workdir / "predictions.npz"
            arrays = dict(np.load(path))
            np.savez(path, **{name: array for name, array in arrays.items() if not name.startswith("score/")})
        items[version] = found(compare_experiments(*groups, ["accuracy"]), "distilled", "accuracy", "examples")
    assert items["classes"].values == items["scored"].values == [0, 0, 1, 1, 0]
