"""Entries of the layers of convolutional networks."""

from collections.abc import Iterator

from jaxdistill.pretrained.correspondence import Entry
from jaxdistill.pretrained.layouts import CONV, Layout

COUNTERS = r".*\.num_batches_tracked"
"""Names of tensors in which PyTorch's batch normalisations count updates; the running averages do not need them."""


def conv(name: str, tensor: str, *, bias: bool = False, layout: Layout = CONV) -> Iterator[Entry]:
    """Yields the entries of a convolution.

    Args:
        name: of the layer here, with dots.
        tensor: the name of its tensors without the last part.
        bias: whether it has a bias.
        layout: of the kernel.
    """
    yield Entry(f"params.{name}.kernel", f"{tensor}.weight", layout)
    if bias:
        yield Entry(f"params.{name}.bias", f"{tensor}.bias")


def batch_norm(name: str, tensor: str) -> Iterator[Entry]:
    """Yields the entries of a batch normalisation with its running statistics."""
    for collection, ours, theirs in (
        ("params", "scale", "weight"),
        ("params", "bias", "bias"),
        ("batch_stats", "mean", "running_mean"),
        ("batch_stats", "var", "running_var"),
    ):
        yield Entry(f"{collection}.{name}.{ours}", f"{tensor}.{theirs}")
