"""The schema: every key has a meaning and a valid default, and belongs to a kind of stage."""

import dataclasses

import pytest

import runs
from jaxdistill.config import load as configs
from jaxdistill.config import registry, schema
from jaxdistill.config.parse import check_bounds, hints_of
from jaxdistill.errors import UserError


def test_a_stage_ignores_inherited_keys_that_its_kind_lacks_and_refuses_its_own():
    raw = configs.read(runs.TINY)
    raw["accumulate"], raw["merge"] = 2, {"rule": "ties"}
    stages = configs.stages(raw)
    assert stages["distil"].accumulate == 2
    assert not hasattr(stages["evaluate"], "accumulate")
    assert not hasattr(stages["distil"], "merge")
    raw["stages"]["evaluate"]["accumulate"] = 4
    with pytest.raises(UserError, match="stages.evaluate.accumulate must be a key of a stage of kind 'evaluate', got"):
        configs.stages(raw)
    raw["merge"]["rul"] = "ties"
    with pytest.raises(UserError, match="merge.rul must be a key of this section, got 'rul'. Did you mean 'rule'"):
        configs.stages(raw)


def sections(kind):
    """Returns a settings class and the classes of its sections."""
    inner = [hint for hint in hints_of(kind).values() if dataclasses.is_dataclass(hint)]
    return [kind, *(below for hint in inner for below in sections(hint))]


@pytest.mark.parametrize("kind", registry.names("kind"))
def test_every_key_has_a_meaning_and_a_default_within_its_bounds(kind):
    for section in sections(schema.settings_of(kind)):
        default = section()
        for field in dataclasses.fields(section):
            if field.name != getattr(section, "OPEN", ""):
                assert field.metadata["meaning"], field.name
                check_bounds(field.name, getattr(default, field.name), field.metadata)


def test_keys_may_have_units_and_sections_are_merged_unless_they_name_a_member():
    train = schema.settings_of("train")
    assert schema.has_key(train, "epochs")
    assert schema.has_key(train, "log_every_epochs")
    assert not schema.has_key(schema.settings_of("evaluate"), "epochs")
    assert schema.is_merged(train, "data")
    assert not any(schema.is_merged(train, key) for key in ("optimizer", "sweep", "networks", "seed", "nothing"))
