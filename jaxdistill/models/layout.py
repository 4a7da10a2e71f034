"""The order in which a TPU keeps the numbers of an array.

The compiler chooses it, and for a step with the gradient of 197 tokens it keeps `[batch, length, width]` with the batch
next to the width, which needs no padding. Norms are then passes of their own, and arrays are copied on either side of
attention, whose products need the length there. In the order of the axes norms and activations are parts of the
products before and after them (`docs/tpu.md`).
"""

from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from jaxdistill import products

States = Float[Array, "batch length width"]


def keep_order(x: States) -> States:
    """Returns the states, which a TPU keeps in the order of their axes; so it does with their gradient."""
    if products.platform() != "tpu":
        return x
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))
