"""Losses of logits."""

import jax.numpy as jnp

from golden_tables import Row
from jaxdistill.methods.cross_entropy import cross_entropy
from jaxdistill.methods.kd import kd


def plain(x, temperature):
    return jnp.mean(kd(x["student_logits"], x["teacher_logits"], temperature))


def with_labels(x, temperature, alpha):
    task = jnp.mean(cross_entropy(x["student_logits"], x["labels"], 0.0))
    return alpha * plain(x, temperature) + (1 - alpha) * task


def bert_pkd(x, temperature, alpha):
    """`KLDivLoss()` averages over classes too: smaller by their number."""
    classes = x["student_logits"].shape[-1]
    task = jnp.mean(cross_entropy(x["student_logits"], x["labels"], 0.0))
    return alpha * plain(x, temperature) / classes + (1 - alpha) * task


def mmrazor(x, temperature, reduction, loss_weight):
    """ "batchmean" divides by the batch alone, "mean" by the classes too: factors of our mean over predictions."""
    batch, *_, classes = x["student_logits"].shape
    predictions = x["student_logits"].size // classes
    factor = {"batchmean": predictions / batch, "mean": 1 / classes}[reduction]
    return loss_weight * factor * plain(x, temperature)


def torchdistill(x, temperature, alpha, beta, reduction):
    """Without labels' share (alpha None) it drops T^2: smaller by that factor. A defect, kept to be compared."""
    if not alpha:
        return plain(x, temperature) / temperature**2
    task = jnp.mean(cross_entropy(x["student_logits"], x["labels"], 0.0))
    return alpha * task + (1 - alpha if beta is None else beta) * plain(x, temperature)


TABLE = {
    ("kd_kl", "repdistiller"): Row(plain),
    ("kd_kl", "mdistiller"): Row(plain),
    ("kd_kl", "kdzoo_softtarget"): Row(plain),
    ("kd_kl", "attention_transfer_composite"): Row(with_labels),
    ("kd_kl", "bert_pkd_composite"): Row(bert_pkd),
    ("kd_kl", "mmrazor"): Row(mmrazor),
    ("kd_kl", "torchdistill"): Row(
        torchdistill, "drops T^2 and its weight without labels", lambda alpha, **_: not alpha
    ),
}
