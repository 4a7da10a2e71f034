"""Detection: fields, targets, and the validity of examples."""

import numpy as np

from jaxdistill import batches
from jaxdistill.data import datasets
from jaxdistill.data.dataset import Dataset, DenseSettings
from jaxdistill.data.dense import DenseArrays, pad_boxes
from jaxdistill.tasks import find
from jaxdistill.tasks.detection import Detection


def test_the_task_follows_from_boxes():
    assert find(datasets.load("shapes", dense=DenseSettings("boxes"))) is Detection


def test_padding_and_crowds_are_no_targets_and_masked_examples_do_not_count():
    boxes = pad_boxes(np.array([[0, 0, 0.5, 0.5], [0, 0, 1, 1]]), np.array([1, 0]), np.array([0, 1]), 3)
    fields = {"image": np.zeros((2, 2, 1), np.uint8), **boxes}
    split = DenseArrays({name: np.stack([array] * 3) for name, array in fields.items()})
    dataset = Dataset({"train": split, "test": split}, ("a", "b"), (2, 2, 1))
    first, last = batches(dataset, "test", batch=2)
    np.testing.assert_array_equal(first["label"], [[1, -1, -1]] * 2)
    np.testing.assert_array_equal(first["box_label"], [[1, 0, -1]] * 2)
    np.testing.assert_array_equal(first["valid"], [1, 1])
    np.testing.assert_array_equal(last["valid"], [1, 0])
