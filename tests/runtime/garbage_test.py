import gc

import pytest

from jaxdistill.runtime import garbage


@pytest.fixture
def collection():
    """Whether it is enabled, and the objects that it does not read, as they were."""
    yield
    gc.unfreeze()
    gc.enable()


def test_collection_goes_on_where_it_was_paused(collection):
    garbage.pause()
    assert not gc.isenabled()
    before = gc.get_freeze_count()
    garbage.resume()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_collection_that_was_paused_twice_goes_on(collection):
    garbage.pause()
    garbage.pause()
    garbage.resume()
    assert gc.isenabled()


def test_what_a_program_has_disabled_stays_so(collection):
    gc.disable()
    before = gc.get_freeze_count()
    garbage.pause()
    garbage.resume()
    assert not gc.isenabled()
    assert gc.get_freeze_count() == before


def test_resume_alone_changes_nothing(collection):
    before = gc.get_freeze_count()
    garbage.resume()
    assert gc.isenabled()
    assert gc.get_freeze_count() == before
