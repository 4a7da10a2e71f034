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

`METRICS` are over examples, `TOKEN_METRICS` over the tokens of texts: which of the two a name means is told by what
the networks predict.
"""

from jaxdistill.errors import UserError, unknown
from jaxdistill.metrics import language
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


TOKEN_METRICS = {
    "nll": language.NLL(),
    "perplexity": language.Perplexity(),
    "bits_per_byte": language.Bits(),
    "bits_per_token": language.Bits(),
    "accuracy": language.Accuracy(),
    "agreement": language.Agreement(),
    "kl": language.KL(),
}


def find(name: str, unit: str = "examples"):
    """Returns the metric of that name.

    Args:
        unit: what is predicted: "examples", the "tokens" of texts, or tokens that are "bytes".

    Raises:
        UserError: for a name that is not there, with those that are.
    """
    if unit == "examples":
        if name in TOKEN_METRICS and name not in METRICS:
            raise UserError(f"metric {name!r} is of tokens, and the networks say one class of each example")
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
        return METRICS[name]
    able = [key for key in TOKEN_METRICS if key != ("bits_per_token" if unit == "bytes" else "bits_per_byte")]
    if name not in able:
        raise unknown("metric of next tokens" if unit == "tokens" else "metric of next bytes", name, able)
    return TOKEN_METRICS[name]
