"""Layers whose arrays have other shapes than their module declares.

A module creates its layers with the sizes of its own fields. Under `apply_resized`, each of them computes with the
sizes of the arrays that it is given, in training and in inference. Norms need no help: theirs are those of their input.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from jaxdistill.compress.layer_graph import LAYERS


def apply_resized(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    """Intercepts Linen methods: a layer has the features, and the groups of channels, of its stored arrays."""
    layer, method = context.module, context.method_name
    if isinstance(layer, nn.Embed) and method == "setup" and layer.has_variable("params", "embedding"):
        # Declaring the table again would compare its shape with the module's fields.
        layer.embedding = layer.get_variable("params", "embedding")
        return None
    if not isinstance(layer, LAYERS) or method != "__call__" or not layer.has_variable("params", "kernel"):
        return call(*args, **kwargs)
    params = layer.variables["params"]
    fields = _fields(layer, params["kernel"].shape, args[0].shape)
    if all(getattr(layer, name) == value for name, value in fields.items()):
        return call(*args, **kwargs)
    return layer.clone(parent=None, **fields).apply({"params": params}, *args, **kwargs)


def _fields(layer: nn.Module, kernel: tuple[int, ...], inputs: tuple[int, ...]) -> dict[str, Any]:
    """Returns the fields with which a layer declares a kernel of that shape."""
    if isinstance(layer, nn.Conv):
        groups = {"feature_group_count": inputs[-1] // kernel[-2]} if layer.feature_group_count > 1 else {}
        return {"features": kernel[-1]} | groups
    if isinstance(layer, nn.DenseGeneral):
        summed = len(layer.axis) if isinstance(layer.axis, tuple | list) else 1
        features = kernel[summed:]
        return {"features": features[0] if isinstance(layer.features, int) else features}
    return {"features": kernel[-1]}
