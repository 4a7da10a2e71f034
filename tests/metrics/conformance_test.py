"""Every metric keeps the promises of `conformance/metrics.py`."""

import functools

import pytest

from jaxdistill.conformance import metrics as promises
from jaxdistill.conformance.promise import NotApplicable
from jaxdistill.metrics import METRICS

# They differ from "map" by the part of its table that they average.
OF_MAP = ("map50", "map75", "map_small", "map_medium", "map_large")
# They differ from "average_precision" and "macro_f1" by the column or the mean that they take.
OF_LABELS = ("auroc", "per_label", "micro_f1")
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in OF_MAP + OF_LABELS else ()) for name in METRICS]

subject = functools.cache(lambda name: promises.make_subject(METRICS[name]))


@pytest.mark.parametrize("promise", promises.PROMISES, ids=lambda promise: promise.name)
@pytest.mark.parametrize("name", NAMES)
def test_promise(name, promise):
    try:
        promise.check(subject(name))
    except NotApplicable as reason:
        pytest.skip(str(reason))
