"""Knowledge distillation in JAX: networks, terms, one step."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxdistill.core import Method, Output, State, Term
    from jaxdistill.data.datasets import load
    from jaxdistill.networks import Ema, Ensemble, Frozen, Head, Shared, Trained
    from jaxdistill.tasks.batches import batches
    from jaxdistill.train.init import init_state
    from jaxdistill.train.step import make_step

__all__ = [
    "Ema",
    "Ensemble",
    "Frozen",
    "Head",
    "Method",
    "Output",
    "Shared",
    "State",
    "Term",
    "Trained",
    "batches",
    "init_state",
    "load",
    "make_step",
]
__version__ = "0.1.0"

_MODULES = dict.fromkeys(("Method", "Output", "State", "Term"), "core") | {
    "load": "data.datasets",
    "batches": "tasks.batches",
    "init_state": "train.init",
    "make_step": "train.step",
}


def __getattr__(name: str) -> object:
    # The command imports this package before it can handle Ctrl-C: names are imported when they are used.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'networks')}"), name)
