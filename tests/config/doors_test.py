"""Classes and functions in a config become names."""

import pytest
from ml_collections import ConfigDict

from jaxdistill.config.doors import name_objects
from jaxdistill.errors import UserError
from jaxdistill.methods.kd import KD


def make_teacher():
    return None


def test_classes_and_functions_become_names():
    config = ConfigDict(dict(terms=dict(kd=dict(method=KD)), batch=4))
    config.networks = dict(teacher=dict(factory=make_teacher), sizes=(1, 2))
    assert name_objects(config) == {
        "terms": {"kd": {"method": "jaxdistill.methods.kd:KD"}},
        "batch": 4,
        "networks": {"teacher": {"factory": f"{__name__}:make_teacher"}, "sizes": (1, 2)},
    }
    assert name_objects({"a": [{"b": ConfigDict({"c": 1})}]}) == {"a": [{"b": {"c": 1}}]}


@pytest.mark.parametrize("member", [lambda: None, KD.check, type("Local", (), {})])
def test_a_member_that_cannot_be_imported_is_refused(member):
    with pytest.raises(UserError, match=r"networks\.teacher\.factory must be importable by its name"):
        name_objects({"networks": {"teacher": {"factory": member}}})


def test_a_config_that_is_no_mapping_is_refused():
    with pytest.raises(UserError, match="config must be a mapping"):
        name_objects(3)
