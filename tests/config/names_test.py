"""Names of stages, networks, terms and mixed datasets, which become parts of paths and flags."""

import pytest

from jaxdistill.config import names
from jaxdistill.errors import UserError


@pytest.mark.parametrize("name", ["student", "ResNet-20", "größer", "a b", "x" * names.LONGEST])
def test_a_printable_name_without_separators_is_taken(name):
    names.check({"networks": {name: {}}, "terms": {name: {}}, "data": {"mix": {name: {}}}}, {name: {}})


@pytest.mark.parametrize(
    "name", ["", " ", " a", "a/b", "..", "a.b", "a#b", "a@0", "a,b", "a\n", "a\0b", 3, "é" * names.LONGEST]
)
@pytest.mark.parametrize(
    ("section", "kind"),
    [("networks", "a network"), ("terms", "a term"), ("data.mix", "a dataset of data.mix"), ("stages", "a stage")],
)
def test_another_name_is_refused_with_its_section(section, kind, name):
    members = {name: {}}
    stages = members if section == "stages" else {"train": {"data": {"mix": members}, section: members}}
    path = section if section == "stages" else f"stages.train.{section}"
    if section != "data.mix":
        stages.get("train", {}).pop("data", None)
    with pytest.raises(UserError, match=f"^{path} must have a name for {kind} of 1 to {names.LONGEST} printable"):
        names.check({}, stages)


@pytest.mark.parametrize("name", names.RESERVED)
def test_a_folder_of_the_workdir_is_no_name_of_a_stage_but_one_of_a_network(name):
    names.check({"networks": {name: {}}}, {})
    with pytest.raises(UserError, match=f"stages.{name} must be a stage with another name, got '{name}'"):
        names.check({}, {name: {}})
