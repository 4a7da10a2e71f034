"""Where outputs come from: each mode of distillation is a choice among these sources."""

from jaxdistill.networks.cached import Cached
from jaxdistill.networks.derivative import Probe
from jaxdistill.networks.ema import Delayed, Ema
from jaxdistill.networks.ensemble import Ensemble
from jaxdistill.networks.function import Function
from jaxdistill.networks.head import Exit
from jaxdistill.networks.precomputed import Said
from jaxdistill.networks.preprocess import Look, Preprocess, preprocess
from jaxdistill.networks.reuse import Reuse
from jaxdistill.networks.shared import Again
from jaxdistill.networks.source import Outputs, Source, dependencies, in_order, run, variables_of
from jaxdistill.networks.trained import Frozen, Trained

__all__ = [
    "Again",
    "Cached",
    "Delayed",
    "Ema",
    "Ensemble",
    "Exit",
    "Frozen",
    "Function",
    "Look",
    "Outputs",
    "Preprocess",
    "Probe",
    "Reuse",
    "Said",
    "Source",
    "Trained",
    "dependencies",
    "in_order",
    "preprocess",
    "run",
    "variables_of",
]
