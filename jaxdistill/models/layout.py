"""The order in which a TPU keeps the numbers of an array.

The compiler chooses it, and for a step with the gradient of 197 tokens it keeps `[batch, length, width]` with the batch
next to the width, which needs no padding. Norms are then passes of their own, and arrays are copied on either side of
attention, whose products need the length there. In the order of the axes norms and activations are parts of the
products before and after them (`docs/tpu.md`).
"""

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from jaxdistill import products
from jaxdistill.models.row_axes import row_axes

States = Float[Array, "batch length width"]


def keep_order(x: States) -> States:
    """Returns the states, which a TPU keeps in the order of their axes; so it does with their gradient.

    On a mesh that does not divide the batch the compiler chooses.
    """
    axes = row_axes(len(x))
    if products.platform() != "tpu" or axes is None:
        return x
    if jax.sharding.get_abstract_mesh().size <= 1 or not axes:
        return _constrain(x)
    rows = PartitionSpec(axes)
    return jax.shard_map(_constrain, in_specs=rows, out_specs=rows, axis_names={*axes}, check_vma=False)(x)


def _constrain(x: States) -> States:
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))
