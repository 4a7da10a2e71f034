"""Every method found in `methods/` keeps the promises of `conformance/methods.py`, and its file the house's."""

import functools
import importlib
import inspect
import re

import pytest

from jaxdistill.config import registry
from jaxdistill.conformance import methods
from jaxdistill.conformance.promise import NotApplicable

METHODS = registry.names("method")
FEW = {"at", "forward_kl", "kd", "rkd", "tinybert"}
COMPILES_MUCH = {
    methods.masked_rows_change_nothing,
    methods.memories_keep_the_promises,
    methods.micro_batches_add_up,
    methods.no_gradient_to_the_teacher,
    methods.wider_teacher,
}
"""Promises that are slow tests, except for a few methods of each kind."""

subject = functools.cache(lambda name: methods.make_subject(registry.find("method", name)))


def is_slow(name, promise):
    return promise in methods.FINITE[1:] or (promise.check in COMPILES_MUCH and name not in FEW)


def applies(name, promise):
    if promise.check is methods.zero_at_the_teacher:
        return registry.find("method", name).zero_at_teacher
    if promise.check is methods.padded_tokens_change_nothing:
        return subject(name).task in ("texts", "next_tokens")
    return True


CASES = [
    pytest.param(name, promise, marks=[pytest.mark.slow] if is_slow(name, promise) else [], id=f"{promise.name}-{name}")
    for promise in methods.PROMISES
    for name in METHODS
    if applies(name, promise)
]


@pytest.mark.parametrize(("name", "promise"), CASES)
def test_promise(name, promise):
    try:
        promise.check(subject(name))
    except NotApplicable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", METHODS)
def test_docstring_has_citation_and_formula(name):
    text = importlib.import_module(f"jaxdistill.methods.{name}").__doc__
    assert "https://" in text
    assert "\n    loss = " in text
    assert "\nElsewhere: " in text


@pytest.mark.parametrize("name", METHODS)
def test_it_is_one_file_of_a_size_to_be_read(name):
    text = inspect.getsource(importlib.import_module(f"jaxdistill.methods.{name}"))
    assert 12 <= len(text.splitlines()) <= 150


def test_names_are_lower_case():
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in METHODS)
