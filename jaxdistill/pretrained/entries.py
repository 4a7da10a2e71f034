"""Entries of the layers that several families have."""

from collections.abc import Iterator

from jaxdistill.pretrained.correspondence import Entry
from jaxdistill.pretrained.layouts import CONV, HEADS, HEADS_BIAS, LINEAR, OUT, SAME, Layout

COUNTERS = r".*\.num_batches_tracked"
"""Names of tensors in which PyTorch's batch normalisations count updates; the running averages do not need them."""


def linear(name: str, tensor: str, head: bool = False) -> Iterator[Entry]:
    """Yields the entries of a linear layer with a bias."""
    yield Entry(f"params.{name}.kernel", f"{tensor}.weight", LINEAR, head=head)
    yield Entry(f"params.{name}.bias", f"{tensor}.bias", head=head)


def norm(name: str, tensor: str, head: bool = False) -> Iterator[Entry]:
    """Yields the entries of a layer norm."""
    yield Entry(f"params.{name}.scale", f"{tensor}.weight", head=head)
    yield Entry(f"params.{name}.bias", f"{tensor}.bias", head=head)


def attention(
    name: str, prefix: str, tensors: str, out: str, of: tuple[str, str, str] = ("query", "key", "value")
) -> Iterator[Entry]:
    """Yields the entries of a block's attention, whose four layers have biases and a tensor each.

    Args:
        name: of the block here.
        prefix: of all its tensors.
        tensors: the name of those of queries, keys and values, with `{}` for the part in `of`.
        out: the name of those of the last layer.
        of: the format's names of queries, keys and values.
    """
    for ours, theirs in zip(("query", "key", "value"), of, strict=True):
        layer, tensor = f"params.{name}.attention.{ours}", prefix + tensors.format(theirs)
        yield Entry(f"{layer}.kernel", f"{tensor}.weight", HEADS)
        yield Entry(f"{layer}.bias", f"{tensor}.bias", HEADS_BIAS)
    yield Entry(f"params.{name}.attention.out.kernel", f"{prefix}{out}.weight", OUT)
    yield Entry(f"params.{name}.attention.out.bias", f"{prefix}{out}.bias")


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


def keras_conv(name: str, layer: str, layout: Layout = SAME) -> Iterator[Entry]:
    """Yields the entries of a convolution of Keras, which has a bias; arguments as of `conv`."""
    yield Entry(f"params.{name}.kernel", f"{layer}.kernel", layout)
    yield Entry(f"params.{name}.bias", f"{layer}.bias")


def batch_norm(name: str, tensor: str) -> Iterator[Entry]:
    """Yields the entries of a batch normalisation with its running statistics."""
    for collection, ours, theirs in (
        ("params", "scale", "weight"),
        ("params", "bias", "bias"),
        ("batch_stats", "mean", "running_mean"),
        ("batch_stats", "var", "running_var"),
    ):
        yield Entry(f"{collection}.{name}.{ours}", f"{tensor}.{theirs}")


def keras_batch_norm(name: str, layer: str) -> Iterator[Entry]:
    """Yields the entries of a batch normalisation of Keras."""
    for collection, ours, theirs in (
        ("params", "scale", "gamma"),
        ("params", "bias", "beta"),
        ("batch_stats", "mean", "moving_mean"),
        ("batch_stats", "var", "moving_variance"),
    ):
        yield Entry(f"{collection}.{name}.{ours}", f"{layer}.{theirs}")


def keras_head(layer: str) -> Iterator[Entry]:
    """Yields the entries of the last layer of Keras."""
    for part in ("kernel", "bias"):
        yield Entry(f"params.head.{part}", f"{layer}.{part}", head=True)
