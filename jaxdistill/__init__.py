"""Knowledge distillation in JAX: networks, terms, one step."""

from jaxdistill.core import Method, Output, State, Term
from jaxdistill.networks import Again, Ema, Ensemble, Exit, Frozen, Trained
from jaxdistill.train.step import make_step

__all__ = ["Again", "Ema", "Ensemble", "Exit", "Frozen", "Method", "Output", "State", "Term", "Trained", "make_step"]
__version__ = "0.1.0"
