"""The identifiers of a workdir's runs in other programs."""

import pytest

from jaxdistill.errors import UserError
from jaxdistill.trackers import tracker


def test_an_identifier_stays(tmp_path):
    first = tracker.find_identifier(tmp_path, "wandb")
    assert len(first) == 8
    assert tracker.find_identifier(tmp_path, "wandb") == first != tracker.find_identifier(tmp_path, "other")
    assert set(tracker.read_record(tmp_path)) == {"wandb", "other"}


def test_a_record_that_cannot_be_read(tmp_path):
    (tmp_path / "trackers.json").write_text("[")
    with pytest.raises(UserError, match="Remove it, and trackers begin new runs"):
        tracker.find_identifier(tmp_path, "wandb")
