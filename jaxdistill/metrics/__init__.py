"""Metrics: one family per file, each with a table `METRICS` of those that a config can name.

    total += metric.sums(output, batch, reference)          on the device, in jit
    value = metric.finish(total)                            on the host, in float64

One that needs the rows of all examples at once gathers them instead (`GatheringMetric`).
A metric works on predictions of any shape `[*n]`, whose `label` and `valid` the task has aligned (`metric.py`).
"""

import importlib
import pkgutil

from jaxdistill.metrics.metric import GatheringMetric, Metric

__all__ = ["METRICS", "GatheringMetric", "Metric"]


def _collect() -> dict[str, Metric | GatheringMetric]:
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return {name: metric for module in modules for name, metric in getattr(module, "METRICS", {}).items()}


METRICS: dict[str, Metric | GatheringMetric] = _collect()
"""All metrics by name."""
