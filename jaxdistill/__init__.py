"""Knowledge distillation in JAX: networks, terms, one step."""

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
