"""Tables: columns of numbers and of strings, made features by transforms that are fitted on the training split alone.

raw = Table(numbers, names, strings, label)               a reader
featurizer = fit(transforms, raw of the training split)
features = apply(featurizer, raw)                         float32 [n, width], dense or scipy-sparse
"""

from jaxdistill.data.tables.featurizer import Featurizer, apply, fit, load
from jaxdistill.data.tables.splits import Features, make_dataset
from jaxdistill.data.tables.table import Table

__all__ = ["Features", "Featurizer", "Table", "apply", "fit", "load", "make_dataset"]
