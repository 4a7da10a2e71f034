"""Our losses against numbers that the authors' own code produced.

The cases are those of the folder JAXDISTILL_GOLDEN, else `../shared/golden`, else the small ones copied into
`tests/golden`. TABLE maps each (loss, variant) to our function and to the exact factor between their reduction
and ours; a loss that is not in the table is not claimed.
"""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHARED

from jaxdistill.methods.cross_entropy import cross_entropy
from jaxdistill.methods.kd import kd


def folder():
    given = os.environ.get("JAXDISTILL_GOLDEN")
    if given:
        return pathlib.Path(given)
    return SHARED / "golden" if (SHARED / "golden").is_dir() else pathlib.Path(__file__).parent / "golden"


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
    ("kd_kl", "repdistiller"): plain,
    ("kd_kl", "mdistiller"): plain,
    ("kd_kl", "kdzoo_softtarget"): plain,
    ("kd_kl", "attention_transfer_composite"): with_labels,
    ("kd_kl", "bert_pkd_composite"): bert_pkd,
    ("kd_kl", "mmrazor"): mmrazor,
    ("kd_kl", "torchdistill"): torchdistill,
}

LOSSES = {loss for loss, _ in TABLE}
CASES = [c for c in json.loads((folder() / "cases.json").read_text())["cases"] if c["loss"] in LOSSES]


def close(got, expected, tolerance, precision, what):
    bound = tolerance[precision]["atol"] + tolerance[precision]["rtol"] * np.abs(expected)
    excess = np.abs(np.asarray(got, np.float64) - expected) - bound
    assert (excess <= 0).all(), f"{what}: off by {np.max(excess):.3g} more than allowed"


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden(case, precision):
    assert (case["loss"], case["variant"]) in TABLE, f"no row in TABLE for {case['loss']}, {case['variant']}"
    arrays = np.load(folder() / case["file"])
    with jax.enable_x64(precision == "float64"):
        x = {
            name: jnp.asarray(arrays[spec["key"]], precision if spec["role"] in ("student", "teacher") else "int32")
            for name, spec in case["inputs"].items()
        }
        function = TABLE[case["loss"], case["variant"]]
        loss = function(x, **case["hyperparameters"])
        assert loss.dtype == precision
        close(loss, arrays[case["expected"]["loss"]["key"]], case["tolerance"]["expected"]["loss"], precision, "loss")
        for name, spec in case["grads"].items():
            grad = jax.grad(lambda value, name=name: function(x | {name: value}, **case["hyperparameters"]))(x[name])
            close(grad, arrays[spec["key"]], case["tolerance"]["grads"][name], precision, f"gradient of {name}")


def test_every_row_of_the_table_has_a_case():
    assert {(case["loss"], case["variant"]) for case in CASES} == set(TABLE)
