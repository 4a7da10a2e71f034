"""Where outputs come from: each mode of distillation is a choice among these sources."""

from jaxdistill.networks.cached import Cached
from jaxdistill.networks.derivative import Derivative
from jaxdistill.networks.ema import Delayed, Ema
from jaxdistill.networks.ensemble import Ensemble
from jaxdistill.networks.function import Function
from jaxdistill.networks.head import Head
from jaxdistill.networks.precomputed import Precomputed
from jaxdistill.networks.preprocess import ImageSpec, Preprocess, preprocess
from jaxdistill.networks.reused_classifier import ReusedClassifier
from jaxdistill.networks.shared import Shared
from jaxdistill.networks.source import Outputs, Source, dependencies, in_order, run, variables_of
from jaxdistill.networks.trained import Frozen, Trained

__all__ = [
    "Cached",
    "Delayed",
    "Derivative",
    "Ema",
    "Ensemble",
    "Frozen",
    "Function",
    "Head",
    "ImageSpec",
    "Outputs",
    "Precomputed",
    "Preprocess",
    "ReusedClassifier",
    "Shared",
    "Source",
    "Trained",
    "dependencies",
    "in_order",
    "preprocess",
    "run",
    "variables_of",
]
