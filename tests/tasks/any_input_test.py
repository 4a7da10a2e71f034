"""Tasks of labels and targets keep the promises of tasks on images, texts and rows of tables."""

import pytest

from jaxdistill.conformance import tasks as promises
from jaxdistill.conformance.promise import NotApplicable
from jaxdistill.tasks.any_input import INPUTS
from jaxdistill.tasks.multi_label import MultiLabel
from jaxdistill.tasks.regression import Regression


@pytest.mark.parametrize("promise", promises.PROMISES, ids=lambda promise: promise.name)
@pytest.mark.parametrize(("task", "field"), [(Regression, "image"), (MultiLabel, "image"), (MultiLabel, "tokens")])
def test_promise(task, field, promise):
    try:
        promise.check(promises.make_subject(task.for_input(field)))
    except NotApplicable as reason:
        pytest.skip(str(reason))


def test_a_task_has_one_name_and_one_class_for_each_input():
    for field, (base, _) in INPUTS.items():
        task = Regression.for_input(field)
        assert issubclass(task, base)
        assert task is Regression.for_input(field)
        assert task.__module__.rpartition(".")[2] == "regression"
        assert task.inputs == base.inputs
