"""Names and arguments of transforms."""

import pytest

from jaxdistill.data.tables import transforms
from jaxdistill.errors import UserError


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("impute:median", ("median",)),
        ("impute:constant,-1", ("constant", -1.0)),
        ("clip:0.01", (0.01,)),
        ("standardize", ()),
        ("pca:16", (16,)),
        ("onehot", ()),
        ("onehot:colour,size", ("colour", "size")),
        ("hash:16, colour", (16, "colour")),
    ],
)
def test_arguments(text, arguments):
    assert transforms.find(text)[1] == arguments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("standardise", "must be a transform, got 'standardise'. Did you mean 'standardize'"),
        ("impute:mode", "'mean', 'median', or 'constant' with a number, got 'mode'. An example is 'impute:median'"),
        ("impute", "'mean', 'median', or 'constant' with a number, got ''"),
        ("impute:mean,3", "'mean', 'median', or 'constant' with a number, got 'mean,3'"),
        ("clip:0.5", "a fraction of the examples above 0 and below 0.5, got '0.5'"),
        ("standardize:1", "no argument, got '1'"),
        ("pca:2.5", "a number of dimensions, 1 or more, got '2.5'"),
        ("pca:0", "a number of dimensions, 1 or more, got '0'"),
        ("onehot:a,,b", "names of columns, or none for all of strings, got 'a,,b'"),
        (3, "must be names with arguments, got 3"),
    ],
)
def test_a_mistake_is_refused_with_an_example(text, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        transforms.find(text)


def test_each_example_of_a_transform_can_be_parsed():
    for name, transform in transforms.TRANSFORMS.items():
        assert transform.example.partition(":")[0] == name
        transforms.find(transform.example)
