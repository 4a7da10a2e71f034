"""Topological sort of names."""

import pytest

from jaxdistill.config.toposort import in_order
from jaxdistill.errors import UserError


def test_each_name_follows_those_it_needs():
    assert in_order("stage", {"a": ["c"], "b": [], "c": ["b"]}) == ["b", "c", "a"]


def test_the_given_order_breaks_ties():
    assert in_order("network", {"b": [], "a": [], "c": []}) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"a": ["b"], "b": ["a"]}, "networks need each other in a circle: a -> b -> a"),
        ({"a": ["a"]}, "networks need each other in a circle: a -> a"),
        ({"teacher": [], "a": ["techer"]}, r"network \(which 'a' needs\) must be .* 'techer'. Did you mean 'teacher'"),
    ],
)
def test_circles_and_missing_names_are_refused(needs, message):
    with pytest.raises(UserError, match=message):
        in_order("network", needs)
