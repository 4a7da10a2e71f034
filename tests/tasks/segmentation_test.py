"""Segmentation: fields, and the validity of pixels."""

import numpy as np

from jaxdistill import batches
from jaxdistill.core import UNLABELLED
from jaxdistill.data import datasets
from jaxdistill.data.dataset import Dataset, DenseSettings
from jaxdistill.data.dense import DenseArrays
from jaxdistill.tasks import find
from jaxdistill.tasks.segmentation import Segmentation


def test_the_task_follows_from_label_maps():
    assert find(datasets.load("shapes", dense=DenseSettings("masks"))) is Segmentation


def test_void_pixels_and_masked_examples_do_not_count():
    label_map = np.array([[[0, UNLABELLED], [1, 1]]] * 3, np.int32)
    split = DenseArrays({"image": np.zeros((3, 2, 2, 1), np.uint8), "label_map": label_map})
    dataset = Dataset({"train": split, "test": split}, ("a", "b"), (2, 2, 1))
    first, last = batches(dataset, "test", batch=2)
    np.testing.assert_array_equal(first["label"], label_map[:2])
    np.testing.assert_array_equal(first["valid"], [[[1, 0], [1, 1]]] * 2)
    np.testing.assert_array_equal(last["valid"], [[[1, 0], [1, 1]], [[0, 0], [0, 0]]])
