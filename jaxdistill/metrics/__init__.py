"""What a network is worth, as sums that add up over batches and hosts.

    total += metric.sums(output, batch, reference)          on the device, in jit
    value = metric.finish(total)                            on the host, in float64

A metric is a frozen dataclass with those two methods and three attributes:

    better: "max" or "min" says which end is good; None says that neither is, or that `finish` gives a table.
    needs_reference: whether `reference` must be another network's output; then also
        same_classes: whether the two must have the same classes.
    needs_labels: whether the batch must have labels; examples with `core.UNLABELLED` do not count.

`batch["mask"]` is 0 for the rows that pad the batch, which count nowhere. An empty split gives nan (or a
table of zeros), never an exception.
"""

from jaxdistill.errors import unknown
from jaxdistill.metrics.cka import CKA
from jaxdistill.metrics.classification import ECE, NLL, Confusion, Macro, PerClass, Reliability, TopK
from jaxdistill.metrics.fidelity import KL, AccuracyWhere, Agreement, CopiedErrors, ECEGap, Overlap

METRICS = {
    "accuracy": TopK(1),
    "top5": TopK(5),
    "precision": Macro("precision"),
    "recall": Macro("recall"),
    "f1": Macro("f1"),
    "nll": NLL(),
    "ece": ECE(),
    "agreement": Agreement(),
    "overlap5": Overlap(5),
    "kl": KL(),
    "ece_gap": ECEGap(),
    "copied_errors": CopiedErrors(),
    "accuracy_where_right": AccuracyWhere(True),
    "accuracy_where_wrong": AccuracyWhere(False),
    "cka": CKA(),
    "per_class": PerClass(),
    "confusion": Confusion(),
    "reliability": Reliability(),
}


def find(name: str):
    """Returns the metric of that name, or raises `UserError` with the names there are."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]
