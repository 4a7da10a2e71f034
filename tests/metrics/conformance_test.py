"""Every metric keeps the promises of `conformance/metrics.py`."""

import functools

import pytest

from jaxdistill.conformance import metrics as promises
from jaxdistill.conformance.promise import NotApplicable
from jaxdistill.metrics import METRICS

subject = functools.cache(lambda name: promises.make_subject(METRICS[name]))


@pytest.mark.parametrize("promise", promises.PROMISES, ids=lambda promise: promise.name)
@pytest.mark.parametrize("name", METRICS)
def test_promise(name, promise):
    try:
        promise.check(subject(name))
    except NotApplicable as reason:
        pytest.skip(str(reason))
