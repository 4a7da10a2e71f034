"""Knowledge distillation in JAX: networks, terms, one step; `run` runs a config, `load` returns a finished network."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxdistill.core import Method, Output, State, Term
    from jaxdistill.data.datasets import load as load_dataset
    from jaxdistill.library import Results, run
    from jaxdistill.networks import Ema, Ensemble, Frozen, Head, Shared, Trained
    from jaxdistill.pipeline.load import load
    from jaxdistill.scaling.worth import Worth, worth
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
    "Results",
    "Shared",
    "State",
    "Term",
    "Trained",
    "Worth",
    "batches",
    "init_state",
    "load",
    "load_dataset",
    "make_step",
    "run",
    "worth",
]
__version__ = "0.1.0"

_PLACES = {name: f"core:{name}" for name in ("Method", "Output", "State", "Term")} | {
    "Results": "library:Results",
    "run": "library:run",
    "load": "pipeline.load:load",
    "Worth": "scaling.worth:Worth",
    "worth": "scaling.worth:worth",
    "load_dataset": "data.datasets:load",
    "batches": "tasks.batches:batches",
    "init_state": "train.init:init_state",
    "make_step": "train.step:make_step",
}


def __getattr__(name: str) -> object:
    # The command imports this package before it can handle Ctrl-C: names are imported when they are used.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PLACES.get(name, f"networks:{name}").partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
