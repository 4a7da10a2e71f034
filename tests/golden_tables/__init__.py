"""Which function of ours, with which arguments and factor, each variant of each golden loss is.

A file for each family of losses; `TABLE` is all of them. A variant that is another function than the paper's, by a
mistake or by a choice that we do not offer, has an `excuse`: its function is still made of ours, with the difference
spelled out, and must still give the peer's numbers, so that the difference is shown to be exactly that.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

FAMILIES = ("logits", "relations", "features", "adapted", "dense", "text", "language", "language_sparse")


@dataclasses.dataclass(frozen=True)
class Row:
    """One variant of one loss.

    Attributes:
        function: `(x, **hyperparameters)` -> the loss, or a dict with it and other outputs that the case expects.
        excuse: why the variant is not what the paper says; "" where it is.
        where: the cases that the excuse is for, by their hyper-parameters.
        leaves: how the names of expected outputs begin that the function does not give beside the loss.
    """

    function: Callable[..., Any]
    excuse: str = ""
    where: Callable[..., bool] = lambda **hyperparameters: True
    leaves: tuple[str, ...] = ()

    def excuses(self, hyperparameters) -> bool:
        return bool(self.excuse and self.where(**hyperparameters))


def table() -> dict[tuple[str, str], Row]:
    """Returns `(loss, variant)` -> its row."""
    rows: dict[tuple[str, str], Row] = {}
    for family in FAMILIES:
        own = importlib.import_module(f"golden_tables.{family}").TABLE
        assert not set(own) & set(rows), set(own) & set(rows)
        rows |= own
    return rows


LOSSES_OF = {
    "kd": ("kd_kl", "kd_soft_ce", "tunix_logit"),
    "logit_regression": ("logit_mse",),
    "logit_standardization": ("logit_std_kd",),
    "dkd": ("dkd",),
    "dist": ("dist",),
    "mlkd": ("mlkd",),
    "adaptive_temperature": ("adaptive_temperature",),
    "fitnet": ("hint",),
    "at": ("at",),
    "fsp": ("fsp",),
    "nst": ("nst",),
    "ft": ("ft",),
    "ab": ("ab",),
    "vid": ("vid",),
    "ofd": ("ofd",),
    "reviewkd": ("reviewkd_hcl",),
    "mgd": ("mgd",),
    "sp": ("sp",),
    "cc": ("cc",),
    "rkd": ("rkd",),
    "pkt": ("pkt",),
    "kdsvd": ("kdsvd",),
    "crd": ("crd",),
    "cwd": ("cwd",),
    "pearson_kd": ("pkd_pearson",),
    "patient_kd": ("pkd_patient",),
    "tinybert": ("attention_match",),
    "forward_kl": ("forward_kl", "dense_token_kl"),
    "reverse_kl": ("reverse_kl",),
    "gkd": ("gkd_jsd", "js_distance"),
    "skew_kl": ("skew_kl", "skew_reverse_kl"),
    "top_k": ("sparse_kl", "gkd_jsd_topk"),
    "uld": ("uld",),
}
"""method -> the golden losses that are its conventions, for the page that compares them."""
