"""What a block keeps for the backward pass, and what it computes again: memory against time.

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
"""What of a block is kept for the backward pass: all; nothing but its input; its products with weights, matrix products
and convolutions, so that only what is cheap is computed again."""


def check_remat(remat: str) -> None:
    """Raises `UserError` where there is no such policy."""
    if remat not in REMATS:
        raise unknown("remat", remat, REMATS)


def rematerialized(block: type[nn.Module], remat: str) -> Any:
    """Returns a block whose call `(x, train)` keeps what the policy says; names and values are the same."""
    return nn.remat(block, policy=REMATS[remat], static_argnums=(2,)) if remat else block
