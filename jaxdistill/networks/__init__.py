"""Where outputs come from: each mode of distillation is a choice among these sources."""

from jaxdistill.networks.again import Again
from jaxdistill.networks.ema import Ema
from jaxdistill.networks.ensemble import Ensemble
from jaxdistill.networks.exit import Exit
from jaxdistill.networks.probe import Probe
from jaxdistill.networks.reuse import Reuse
from jaxdistill.networks.source import Outputs, Source, in_order, run, variables_of
from jaxdistill.networks.trained import Frozen, Trained

__all__ = [
    "Again",
    "Ema",
    "Ensemble",
    "Exit",
    "Frozen",
    "Outputs",
    "Probe",
    "Reuse",
    "Source",
    "Trained",
    "in_order",
    "run",
    "variables_of",
]
