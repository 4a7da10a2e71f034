"""Tables: columns of numbers and of strings, made features by transforms that are fitted on the training split alone.

raw = Table(numbers, names, strings, label)         a reader
pipeline = fit(transforms, raw of the training split)
features = apply(pipeline, raw)                      float32 [n, width], dense or scipy-sparse
"""

from jaxdistill.data.tables.pipeline import Pipeline, apply, fit, load
from jaxdistill.data.tables.splits import Features, make_dataset
from jaxdistill.data.tables.table import Table

__all__ = ["Features", "Pipeline", "Table", "apply", "fit", "load", "make_dataset"]
