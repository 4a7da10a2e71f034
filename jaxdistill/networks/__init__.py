"""Sources of outputs: each mode of distillation is a choice among these."""

from jaxdistill.modules.preprocess import ImageSpec, Preprocess, preprocess
from jaxdistill.networks.cached import Cached
from jaxdistill.networks.crossed_head import CrossedHead
from jaxdistill.networks.delayed import Delayed
from jaxdistill.networks.derivative import Derivative
from jaxdistill.networks.ema import Ema
from jaxdistill.networks.ensemble import Ensemble
from jaxdistill.networks.frozen import Frozen
from jaxdistill.networks.function import Function
from jaxdistill.networks.graph import (
    Precomputed,
    brought_variables,
    dependencies,
    for_inference,
    in_order,
    naming,
    run,
    tpu_options,
    variables_of,
)
from jaxdistill.networks.head import Head
from jaxdistill.networks.options import NetworkRef, required
from jaxdistill.networks.reused_classifier import ReusedClassifier
from jaxdistill.networks.routed import Routed
from jaxdistill.networks.shared import Shared
from jaxdistill.networks.source import (
    Borrows,
    BringsVariables,
    Context,
    Divides,
    Follows,
    ForInference,
    Outputs,
    Revises,
    Source,
    Starts,
)
from jaxdistill.networks.trained import Trained

__all__ = [
    "Borrows",
    "BringsVariables",
    "Cached",
    "Context",
    "CrossedHead",
    "Delayed",
    "Derivative",
    "Divides",
    "Ema",
    "Ensemble",
    "Follows",
    "ForInference",
    "Frozen",
    "Function",
    "Head",
    "ImageSpec",
    "NetworkRef",
    "Outputs",
    "Precomputed",
    "Preprocess",
    "ReusedClassifier",
    "Revises",
    "Routed",
    "Shared",
    "Source",
    "Starts",
    "Trained",
    "brought_variables",
    "dependencies",
    "for_inference",
    "in_order",
    "naming",
    "preprocess",
    "required",
    "run",
    "tpu_options",
    "variables_of",
]
