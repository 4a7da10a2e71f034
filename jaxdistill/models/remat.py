"""Rematerialisation: values that the backward pass recomputes instead of storing.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, https://arxiv.org/abs/1604.06174.
"""

from typing import Any

import flax.linen as nn
import jax

from jaxdistill.errors import unknown


def _products(primitive: Any, *values: Any, **params: Any) -> Any:
    if primitive.name == "conv_general_dilated":
        return True
    return jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *values, **params)


REMATS = {
    "": None,
    "block": jax.checkpoint_policies.nothing_saveable,
    "products": _products,
}
"""Policy of each name. The backward pass keeps all values of a block, only its input, or only its products with weights
(matrix products and convolutions), so that only cheap operations run again."""


def check_remat(remat: str) -> None:
    """Raises `UserError` for an unknown policy."""
    if remat not in REMATS:
        raise unknown("remat", remat, REMATS, "an existing remat")


def rematerialize(block: type[nn.Module], remat: str) -> type[nn.Module]:
    """Returns a block whose call `(x, train)` keeps the values that the policy names; its params do not change."""
    return nn.remat(block, policy=REMATS[remat], static_argnums=(2,)) if remat else block
