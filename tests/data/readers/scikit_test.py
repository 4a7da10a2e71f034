"""The tables that scikit-learn carries."""

import numpy as np
import pytest

from jaxdistill.data import datasets


@pytest.mark.parametrize(
    ("name", "examples", "width", "classes"),
    [("breast_cancer", 569, 30, 2), ("wine", 178, 13, 3), ("digits_table", 1797, 64, 10), ("diabetes", 442, 10, 1)],
)
def test_sizes_splits_and_standardised_features(name, examples, width, classes):
    dataset = datasets.load(name, transforms=("standardize",))
    assert sum(map(len, dataset.splits.values())) == examples
    assert dataset.shape == (width,)
    assert dataset.classes == classes
    train = dataset.split("train").features
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    assert np.isclose(train.std(0), 1, atol=1e-4).sum() >= width - 4  # some pixels of the digits are constant
    assert ("target" in dataset.fields) == (name == "diabetes")
