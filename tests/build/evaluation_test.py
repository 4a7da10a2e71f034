"""The evaluation of a stage as data."""

import pytest

from jaxdistill.build.evaluation import StageEvaluation
from runs import with_evaluate


def test_the_teacher_is_the_reference_unless_another_is_named(stages):
    assert stages["distil"].evaluation.reference == "teacher"
    assert with_evaluate(stages["distil"], reference="slow").evaluation.reference == "slow"


def test_a_reference_runs_only_if_a_metric_compares_with_it(stages):
    assert stages["distil"].evaluation.measured_reference == ""
    assert "teacher" not in stages["distil"].evaluation.needed
    compared = with_evaluate(stages["distil"], metrics=("accuracy", "kl")).evaluation
    assert (compared.measured_reference, [*compared.fidelity_metrics]) == ("teacher", ["kl"])
    assert "teacher" in compared.needed


def test_pairs_are_those_with_the_reference_and_the_named_ones(stages):
    evaluation = stages["evaluate"].evaluation
    assert evaluation.pairs == [("student", "teacher"), ("slow", "teacher"), ("slow", "student")]
    assert evaluation.needed == evaluation.compared == ["teacher", "student", "slow"]


def test_checkpoints_are_ranked_by_the_students_first_metric_with_a_direction(stages):
    ranking = with_evaluate(stages["distil"], metrics=("confusion", "nll", "accuracy", "kl")).evaluation.ranking
    assert ranking[:3] == ["student/nll", "student/accuracy", "student/kl"]
    assert "slow/accuracy" in ranking
    assert not any("confusion" in name for name in ranking)


@pytest.mark.parametrize(("saliency", "draws"), [(True, True), (False, False)])
def test_saliency_is_drawn_for_images_if_set(stages, saliency, draws):
    assert with_evaluate(stages["distil"], saliency=saliency).evaluation.draws_saliency == draws


def test_an_evaluation_of_no_network_needs_none(stages):
    evaluation = stages["distil"].evaluation
    empty = StageEvaluation("train", evaluation.settings, evaluation.task, [], "teacher", [])
    assert (empty.needed, empty.ranking) == ([], [])
